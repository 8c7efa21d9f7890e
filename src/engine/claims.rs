//! Which names and webhook paths more than one file claims: kept as files come and go, so that one
//! that changed is not held against all others.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What may be claimed once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Claim<'a> {
    /// A connector's name.
    Name(&'a str),
    /// A webhook's path.
    Route(&'a str),
}

/// Counts claims by their hash. Two that only look alike cost a closer look, nothing else.
#[derive(Debug, Default)]
pub(super) struct Claims {
    files: HashMap<u64, u32>,
    /// Claims of several files.
    contested: usize,
}

impl Claims {
    /// Whether two files may claim the same.
    pub fn are_contested(&self) -> bool {
        self.contested > 0
    }

    /// Takes in a file's claims.
    pub fn add<'a>(&mut self, file: impl Iterator<Item = Claim<'a>>) {
        for claim in once_each(file) {
            let files = self.files.entry(claim).or_insert(0);
            *files += 1;
            self.contested += usize::from(*files == 2);
        }
    }

    /// Forgets those of a file that is gone, or is about to have others.
    pub fn remove<'a>(&mut self, file: impl Iterator<Item = Claim<'a>>) {
        for claim in once_each(file) {
            let Some(files) = self.files.get_mut(&claim) else { continue };
            *files -= 1;
            self.contested -= usize::from(*files == 1);
            if *files == 0 {
                self.files.remove(&claim);
            }
        }
    }
}

/// Several streams of one file may take the same path.
fn once_each<'a>(claims: impl Iterator<Item = Claim<'a>>) -> Vec<u64> {
    let hash = |claim| match claim {
        Claim::Name(name) => xxh3_64_with_seed(name.as_bytes(), 0),
        Claim::Route(path) => xxh3_64_with_seed(path.as_bytes(), 1),
    };
    let mut hashes: Vec<u64> = claims.map(hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_files_claim_is_contested_until_one_lets_go() {
        let a = [Claim::Name("a"), Claim::Route("/x"), Claim::Route("/x")];
        let b = [Claim::Name("b"), Claim::Route("/x")];
        let mut claims = Claims::default();
        claims.add(a.into_iter());
        assert!(!claims.are_contested(), "two streams of one file may share a path");
        claims.add([Claim::Name("/x"), Claim::Route("a")].into_iter());
        assert!(!claims.are_contested(), "a name is no path");
        claims.add(b.into_iter());
        assert!(claims.are_contested());
        claims.remove(a.into_iter());
        assert!(!claims.are_contested());
        claims.add(a.into_iter());
        claims.remove(b.into_iter());
        assert!(!claims.are_contested());
        claims.remove(a.into_iter());
        claims.remove([Claim::Name("/x"), Claim::Route("a")].into_iter());
        assert!(claims.files.is_empty());
    }
}
