//! Which thing of the old side is which of the new: by name, and what is left by its content.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Filed, Side,
    places::{Places, likeness},
};

/// So much of two things' content is the same where one is the other under a new name.
const ALIKE: f64 = 0.6;
/// The same for two connectors that lie in one place.
const ALIKE_IN_PLACE: f64 = 0.25;
/// What a connector's content is compared without.
const NOT_CONTENT: &[&str] = &["name", "version", "change", "test"];

type Facts = Vec<(String, String)>;

/// The names of one kind of thing on both sides, matched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Matched {
    /// Old name and new name, in the new side's order.
    pub both: Vec<(String, String)>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

impl Matched {
    /// Those whose name differs, by the old one.
    pub fn renames(&self) -> BTreeMap<String, String> {
        self.both.iter().filter(|(old, new)| old != new).cloned().collect()
    }
}

/// Matches names, then contents.
pub(super) fn names<'n>(
    old: impl IntoIterator<Item = &'n str>,
    new: impl IntoIterator<Item = &'n str>,
    facts_of_old: impl Fn(&str) -> Facts,
    facts_of_new: impl Fn(&str) -> Facts,
) -> Matched {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.into_iter().collect(), new.into_iter().collect());
    let gone: Vec<&str> = old.iter().copied().filter(|name| !new.contains(name)).collect();
    let fresh: Vec<&str> = new.iter().copied().filter(|name| !old.contains(name)).collect();
    let score =
        |was: usize, is: usize| likeness(&facts_of_old(gone[was]), &facts_of_new(fresh[is]));
    let renamed = best(gone.len(), fresh.len(), score, |_, _| ALIKE);
    let was = |name: &str| {
        let is = fresh.iter().position(|other| *other == name)?;
        renamed.get(&is).map(|was| gone[*was])
    };
    let mut matched = Matched::default();
    for name in &new {
        match if old.contains(name) { Some(*name) } else { was(name) } {
            Some(old) => matched.both.push((old.to_owned(), (*name).to_owned())),
            None => matched.added.push((*name).to_owned()),
        }
    }
    let taken: BTreeSet<&str> = renamed.values().map(|was| gone[*was]).collect();
    matched.removed =
        gone.iter().filter(|name| !taken.contains(*name)).map(|name| (*name).to_owned()).collect();
    matched
}

/// The likeliest pairs, each thing once: new index → old index.
fn best(
    old: usize,
    new: usize,
    score: impl Fn(usize, usize) -> f64,
    least: impl Fn(usize, usize) -> f64,
) -> BTreeMap<usize, usize> {
    let mut candidates: Vec<(f64, usize, usize)> = Vec::new();
    for was in 0..old {
        for is in 0..new {
            let score = score(was, is);
            if score >= least(was, is) {
                candidates.push((score, was, is));
            }
        }
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut pairs = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (_, was, is) in candidates {
        if !pairs.contains_key(&is) && taken.insert(was) {
            pairs.insert(is, was);
        }
    }
    pairs
}

/// The connectors of two sides, matched, by their indexes. What does not compile on one side, and
/// its counterpart, are left out.
pub(super) fn connectors(old: &Side, new: &Side) -> Vec<(Option<usize>, Option<usize>)> {
    let compiles = |side: &Side| -> Vec<usize> {
        (0..side.files.len()).filter(|at| side.files[*at].plan().is_some()).collect()
    };
    let (old_files, new_files) = (compiles(old), compiles(new));
    // One file against one file: whatever they are called, they are meant.
    if let ([_], [_], [was], [is]) =
        (old.files.as_slice(), new.files.as_slice(), old_files.as_slice(), new_files.as_slice())
    {
        return vec![(Some(*was), Some(*is))];
    }
    let name = |side: &Side, at: usize| super::name_of(&side.files[at]);
    let mut by_name: BTreeMap<_, usize> =
        old_files.iter().map(|was| (name(old, *was), *was)).collect();
    let mut pairs: Vec<(Option<usize>, Option<usize>)> = Vec::new();
    let mut fresh = Vec::new();
    for is in new_files {
        match by_name.remove(&name(new, is)) {
            Some(was) => pairs.push((Some(was), Some(is))),
            None => fresh.push(is),
        }
    }
    let mut gone: Vec<usize> = by_name.into_values().collect();
    gone.sort_unstable();
    let broken = |side: &Side, file: &Filed| {
        side.files.iter().filter(|other| other.plan().is_none()).any(|other| {
            other.at == file.at
                || other.written.compiled.name.is_some()
                    && other.written.compiled.name == file.plan().map(|plan| plan.name.clone())
        })
    };
    gone.retain(|was| !broken(new, &old.files[*was]));
    fresh.retain(|is| !broken(old, &new.files[*is]));

    let facts = |side: &Side, at: usize| content(&Places::of(&side.files[at].written.texts));
    let old_facts: Vec<Facts> = gone.iter().map(|at| facts(old, *at)).collect();
    let new_facts: Vec<Facts> = fresh.iter().map(|at| facts(new, *at)).collect();
    let in_place = |was: usize, is: usize| old.files[gone[was]].at == new.files[fresh[is]].at;
    let least = |was, is| if in_place(was, is) { ALIKE_IN_PLACE } else { ALIKE };
    let score = |was: usize, is: usize| likeness(&old_facts[was], &new_facts[is]);
    let renamed = best(gone.len(), fresh.len(), score, least);
    for (at, is) in fresh.iter().enumerate() {
        pairs.push((renamed.get(&at).map(|was| gone[*was]), Some(*is)));
    }
    for (at, was) in gone.iter().enumerate() {
        if !renamed.values().any(|taken| *taken == at) {
            pairs.push((Some(*was), None));
        }
    }
    pairs
}

fn content(places: &Places) -> Facts {
    let mut facts = places.facts("");
    facts.retain(|(path, _)| {
        let table = path.split(['.', '[']).next().unwrap_or_default();
        !NOT_CONTENT.contains(&table)
    });
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_first_then_contents() {
        let facts = |name: &str| -> Facts {
            let of = |values: &[&str]| {
                values.iter().map(|v| ((*v).to_owned(), (*v).to_owned())).collect()
            };
            match name {
                "orders" | "bestellungen" => of(&["a", "b", "c"]),
                "refunds" => of(&["x", "y"]),
                "returns" => of(&["x", "z", "w"]),
                _ => of(&["q"]),
            }
        };
        let matched =
            names(["orders", "refunds", "same"], ["same", "bestellungen", "returns"], facts, facts);
        assert_eq!(matched.renames(), BTreeMap::from([("orders".into(), "bestellungen".into())]));
        assert_eq!(
            (matched.added, matched.removed),
            (vec!["returns".into()], vec!["refunds".into()])
        );
        assert_eq!(matched.both[0], ("same".to_owned(), "same".to_owned()));
    }
}
