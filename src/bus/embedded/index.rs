//! sled: where checkpoints stand. Nothing in it is the only copy of anything but what the journal
//! has outlived, and a folder that does not open is moved aside and built anew.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// sled's own cache; blocks are read once, at start.
const CACHE_BYTES: u64 = 16 << 20;

/// sled copies a page for each key that it writes, and frees the copies behind a batch: of hundreds of
/// thousands of cursors that is gigabytes. They do not depend on each other, so they may be written in
/// parts; what the position does not promise yet is read from the journal again.
const STATE_A_BATCH: usize = 256;

/// A tree in sled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    /// The position, under [`POSITION`].
    Position,
    /// Number → lane.
    Lanes,
    /// The same, for numbers that go.
    LanesGone,
    /// Region → unsettled pairs.
    Unsettled,
    /// Dedupe blocks.
    Claims,
    /// Blocks of claims that hold for ever.
    Forever,
    /// Blocks of newest revisions.
    Revisions,
    /// Key → segment of its record (u32, little endian), then the value.
    State,
}

/// The key of the position.
pub(super) const POSITION: &[u8] = b"position";

pub(super) const SHELVES: [(Shelf, &str); 8] = [
    (Shelf::Lanes, "lanes"),
    (Shelf::Unsettled, "unsettled"),
    (Shelf::Claims, "claims"),
    (Shelf::Forever, "forever"),
    (Shelf::Revisions, "revisions"),
    (Shelf::State, "state"),
    // After the pairs: no pair that stands may have a number without a name.
    (Shelf::LanesGone, "lanes"),
    // Last: what the position promises is written before it.
    (Shelf::Position, "position"),
];

/// One change; no value removes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub shelf: Shelf,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Reads from sled, which panics on some damage: a database that does cannot be used either.
pub(super) fn caught<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let caught = catch_unwind(AssertUnwindSafe(read));
    caught.unwrap_or_else(|_| Err("sled panicked".to_owned()))
}

/// The open database.
pub(super) struct Index {
    db: sled::Db,
    shelves: Vec<(Shelf, sled::Tree)>,
}

impl Index {
    /// Opens the database, or says why not.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let open = || {
            let config = sled::Config::new().path(folder).cache_capacity(CACHE_BYTES);
            let db = config.flush_every_ms(None).open()?;
            let shelves = SHELVES
                .iter()
                .map(|(shelf, name)| Ok((*shelf, db.open_tree(name)?)))
                .collect::<sled::Result<Vec<_>>>()?;
            sled::Result::Ok(Self { db, shelves })
        };
        caught(|| open().map_err(|error| error.to_string()))
    }

    fn shelf(&self, shelf: Shelf) -> Option<&sled::Tree> {
        self.shelves.iter().find(|(s, _)| *s == shelf).map(|(_, tree)| tree)
    }

    /// Applies changes and makes them durable.
    pub fn apply(&self, writes: &[Write]) -> Result<(), String> {
        for (shelf, tree) in &self.shelves {
            let mine: Vec<&Write> = writes.iter().filter(|w| w.shelf == *shelf).collect();
            let in_parts = matches!(shelf, Shelf::State | Shelf::LanesGone);
            let at_once = if in_parts { STATE_A_BATCH } else { mine.len().max(1) };
            for part in mine.chunks(at_once) {
                let mut batch = sled::Batch::default();
                for write in part {
                    match &write.value {
                        Some(value) => batch.insert(write.key.as_slice(), value.as_slice()),
                        None => batch.remove(write.key.as_slice()),
                    }
                }
                tree.apply_batch(batch).map_err(|e| e.to_string())?;
            }
        }
        self.db.flush().map(drop).map_err(|e| e.to_string())
    }

    /// One value.
    pub fn get(&self, shelf: Shelf, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let Some(tree) = self.shelf(shelf) else {
            return Ok(None);
        };
        tree.get(key).map(|v| v.map(|v| v.to_vec())).map_err(|e| e.to_string())
    }

    /// All of a shelf, in order of key. One look-up follows the other: sled's iterator keeps in memory
    /// what it has passed.
    pub fn each(
        &self,
        shelf: Shelf,
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(tree) = self.shelf(shelf) else {
            return Ok(());
        };
        let mut next = tree.first();
        while let Some((key, value)) = next.map_err(|e| e.to_string())? {
            each(&key, &value)?;
            next = tree.get_gt(key);
        }
        Ok(())
    }
}

/// Moves a database that cannot be used aside. Where to.
pub(super) fn move_aside(folder: &Path) -> std::io::Result<PathBuf> {
    for number in 1u32.. {
        let aside = folder.with_extension(format!("broken-{number}"));
        if !aside.exists() {
            std::fs::rename(folder, &aside)?;
            return Ok(aside);
        }
    }
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_there_after_reopening_and_a_broken_folder_goes_aside() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("index");
        let write = |key: &str, value: Option<&str>| Write {
            shelf: Shelf::State,
            key: key.into(),
            value: value.map(Into::into),
        };
        let index = Index::open(&folder).unwrap();
        index.apply(&[write("a", Some("1")), write("b", Some("2"))]).unwrap();
        index.apply(&[write("a", None)]).unwrap();
        drop(index);
        let index = Index::open(&folder).unwrap();
        assert_eq!(index.get(Shelf::State, b"a"), Ok(None));
        assert_eq!(index.get(Shelf::State, b"b"), Ok(Some(b"2".to_vec())));
        drop(index);
        let aside = move_aside(&folder).unwrap();
        assert!(aside.ends_with("index.broken-1") && !folder.exists());
    }
}
