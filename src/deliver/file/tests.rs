use std::{fs, path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::{BUFFER_BYTES, JsonLines, Rotation};
use crate::{
    deliver::Outcome,
    world::{BoxFuture, Clock, Timestamp},
};

/// A clock that is set by hand.
#[derive(Default)]
struct HandClock(Mutex<i64>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(*self.0.lock())
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct Fixture {
    folder: TempDir,
    clock: Arc<HandClock>,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(HandClock(Mutex::new(1_795_342_500_000)));
        Self { folder: tempfile::tempdir().unwrap(), clock }
    }

    fn open(&self, rotation: Rotation) -> JsonLines {
        JsonLines::open(&self.path(), rotation, self.clock.clone()).unwrap()
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("out/orders.jsonl")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let folder = self.folder.path().join("out");
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn pass(&self, time: Duration) {
        *self.clock.0.lock() += time.as_millis() as i64;
    }
}

fn take(file: &JsonLines, json: &str) {
    assert_eq!(file.append(json.as_bytes()), Outcome::Delivered { status: None });
}

#[tokio::test]
async fn lines_are_on_disk_after_sync_and_not_written_one_by_one() {
    let it = Fixture::new();
    let file = it.open(Rotation::default());
    take(&file, r#"{"n":1}"#);
    take(&file, "{\n\"n\":\r\n2}");
    assert_eq!(it.text(), "");
    file.sync().await.unwrap();
    assert_eq!(it.text(), "{\"n\":1}\n{ \"n\":  2}\n");
    drop(file);
    let again = it.open(Rotation::default());
    take(&again, "3");
    again.sync().await.unwrap();
    assert!(it.text().ends_with("2}\n3\n"));
}

#[tokio::test]
async fn a_large_group_is_written_as_it_grows() {
    let it = Fixture::new();
    let file = it.open(Rotation::default());
    let record = format!("\"{}\"", "x".repeat(1000));
    for _ in 0..BUFFER_BYTES / 500 {
        take(&file, &record);
    }
    assert!(it.text().len() > BUFFER_BYTES / 2);
    file.sync().await.unwrap();
    assert_eq!(it.text().lines().count(), BUFFER_BYTES / 500);
    assert!(it.text().lines().all(|line| line == record));
}

#[tokio::test]
async fn a_torn_last_line_is_ended_at_open() {
    let it = Fixture::new();
    fs::create_dir_all(it.path().parent().unwrap()).unwrap();
    fs::write(it.path(), "{\"n\":1}\n{\"n\":").unwrap();
    let file = it.open(Rotation::default());
    take(&file, r#"{"n":3}"#);
    file.sync().await.unwrap();
    assert_eq!(it.text(), "{\"n\":1}\n{\"n\":\n{\"n\":3}\n");
}

#[tokio::test]
async fn a_full_file_is_rotated_and_the_oldest_are_removed() {
    let it = Fixture::new();
    let file = it.open(Rotation { bytes: Some(10), every: None, keep: Some(2) });
    fs::write(it.folder.path().join("out/orders-notes.jsonl"), "mine").unwrap();
    for n in 1..=4 {
        take(&file, &format!("\"line{n}\""));
        if n == 3 {
            it.pass(Duration::from_secs(1));
        }
    }
    file.sync().await.unwrap();
    assert_eq!(it.text(), "\"line4\"\n");
    assert_eq!(
        it.names(),
        [
            "orders-20261122T101500Z-2.jsonl",
            "orders-20261122T101501Z-1.jsonl",
            "orders-notes.jsonl",
            "orders.jsonl",
        ]
    );
    let second = it.folder.path().join("out/orders-20261122T101500Z-2.jsonl");
    assert_eq!(fs::read_to_string(second).unwrap(), "\"line2\"\n");
}

#[tokio::test]
async fn an_old_file_is_rotated_but_an_empty_one_is_not() {
    let it = Fixture::new();
    let rotation = Rotation { bytes: None, every: Some(Duration::from_mins(1)), keep: None };
    let file = it.open(rotation);
    it.pass(Duration::from_hours(1));
    take(&file, "1");
    it.pass(Duration::from_secs(59));
    take(&file, "2");
    it.pass(Duration::from_secs(1));
    take(&file, "3");
    file.sync().await.unwrap();
    assert_eq!(it.text(), "3\n");
    assert_eq!(it.names().len(), 2);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_anew() {
    let it = Fixture::new();
    let file = it.open(Rotation::default());
    take(&file, "1");
    file.sync().await.unwrap();
    let moved = it.folder.path().join("moved");
    fs::rename(it.path(), &moved).unwrap();
    take(&file, "2");
    file.sync().await.unwrap();
    take(&file, "3");
    file.sync().await.unwrap();
    assert_eq!(fs::read_to_string(&moved).unwrap(), "1\n2\n");
    assert_eq!(it.text(), "3\n");
}

#[tokio::test]
async fn a_full_disk_is_retried_and_says_so() {
    // Every write to this device fails with "no space left".
    let clock = Arc::new(HandClock::default());
    let file = JsonLines::open(Path::new("/dev/full"), Rotation::default(), clock).unwrap();
    take(&file, "1");
    let error = file.sync().await.unwrap_err();
    assert!(error.contains("No space left"), "{error}");
    // While lines wait for room no others are taken: the buffer does not grow.
    for _ in 0..3 {
        let outcome = file.append(b"2");
        let Outcome::Retry { message, .. } = outcome else { panic!("{outcome:?}") };
        assert!(message.contains("No space left"), "{message}");
    }
    assert_eq!(file.writer.lock().buffer, b"1\n");
    assert!(file.sync().await.is_err());
}

#[tokio::test]
async fn a_failed_fdatasync_is_final() {
    let it = Fixture::new();
    let file = it.open(Rotation::default());
    take(&file, "1");
    // A pipe takes what is written and cannot be synced.
    let (_reader, pipe) = std::io::pipe().unwrap();
    let pipe = std::fs::File::from(std::os::fd::OwnedFd::from(pipe));
    file.writer.lock().unsynced.push(Arc::new(pipe));
    let error = file.sync().await.unwrap_err();
    assert_eq!(file.sync().await, Err(error.clone()));
    assert_eq!(file.append(b"2"), Outcome::Held { status: None, message: error });
}

#[tokio::test]
async fn many_groups_at_once_all_find_their_lines_on_disk() {
    let it = Fixture::new();
    let rotation = Rotation { bytes: Some(200), every: None, keep: None };
    let file = Arc::new(it.open(rotation));
    let mut groups = tokio::task::JoinSet::new();
    for group in 0..20 {
        let file = file.clone();
        groups.spawn(async move {
            for n in 0..20 {
                take(&file, &format!("{}", group * 20 + n));
            }
            file.sync().await
        });
    }
    while let Some(done) = groups.join_next().await {
        done.unwrap().unwrap();
    }
    let folder = it.folder.path().join("out");
    let mut lines: Vec<usize> = it
        .names()
        .iter()
        .flat_map(|name| {
            let text = fs::read_to_string(folder.join(name)).unwrap();
            text.lines().map(|line| line.parse().unwrap()).collect::<Vec<_>>()
        })
        .collect();
    lines.sort_unstable();
    assert!(lines.into_iter().eq(0..400));
    assert!(file.writer.lock().unsynced.is_empty());
}
