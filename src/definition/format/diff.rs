//! What formatting would change, line by line: a unified diff without context.

use std::fmt::Write as _;

/// Beyond so many comparisons the whole stretch is shown as replaced.
const MAX_COMPARISONS: usize = 4_000_000;

/// The changes from one text to another, as `patch` reads them.
pub fn unified(name: &str, before: &str, after: &str) -> String {
    let (old, new) = (lines(before), lines(after));
    let same_begin = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let same_end = old[same_begin..]
        .iter()
        .rev()
        .zip(new[same_begin..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let mut out = format!("--- {name}\n+++ {name}\n");
    let middle = (&old[same_begin..old.len() - same_end], &new[same_begin..new.len() - same_end]);
    for (old, new) in hunks(middle.0, middle.1) {
        let place = |range: &std::ops::Range<usize>| {
            // An empty range is named by the line before it.
            let first = same_begin + range.start + usize::from(!range.is_empty());
            format!("{first},{}", range.len())
        };
        let _ = writeln!(out, "@@ -{} +{} @@", place(&old), place(&new));
        for line in &middle.0[old] {
            let _ = writeln!(out, "-{line}");
        }
        for line in &middle.1[new] {
            let _ = writeln!(out, "+{line}");
        }
    }
    out
}

fn lines(text: &str) -> Vec<&str> {
    text.split_terminator('\n').collect()
}

type Hunk = (std::ops::Range<usize>, std::ops::Range<usize>);

/// The stretches that differ, by a longest common subsequence.
fn hunks(old: &[&str], new: &[&str]) -> Vec<Hunk> {
    if old.len() * new.len() > MAX_COMPARISONS {
        return vec![(0..old.len(), 0..new.len())];
    }
    // longest[i][j]: of what old has from i on and new from j on.
    let width = new.len() + 1;
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i * width + j] = if old[i] == new[j] {
                longest[(i + 1) * width + j + 1] + 1
            } else {
                longest[(i + 1) * width + j].max(longest[i * width + j + 1])
            };
        }
    }
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    let mut open = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            if (i, j) != open {
                found.push((open.0..i, open.1..j));
            }
            (i, j) = (i + 1, j + 1);
            open = (i, j);
        } else if j == new.len()
            || i < old.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1]
        {
            i += 1;
        } else {
            j += 1;
        }
    }
    if (i, j) != open {
        found.push((open.0..i, open.1..j));
    }
    found
}
