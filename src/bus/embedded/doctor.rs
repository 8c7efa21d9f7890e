//! `tenon doctor`: reads everything in a state folder that no bus has open, and mends what can be.
//!
//! [`verify`] changes nothing. [`repair`] cuts torn tails, moves damage into the quarantine, and
//! moves an index that cannot be used aside, so that the next start builds it from the journal.

use std::{io, ops::ControlFlow, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    folder::{Folder, OpenError, trying},
    format::{append, append::Part, letter, segment::HEADER_BYTES, segment::Kind, settlement},
    index::{self, Index},
    quarantine::Quarantine,
    recover,
    scan::scan,
    segments::Segments,
};
use crate::world::{Disk, SystemDisk, Timestamp};

/// What was found in a state folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorReport {
    /// Files of both journals.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Records that are whole.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Settlements (failed attempts included).
    pub settlements: u64,
    /// Dead letters written, discarded ones included.
    pub dead_letters: u64,
    /// (event, destination) pairs that are not settled.
    pub unsettled: u64,
    /// What is wrong; empty where all is well.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file, relative to the state folder.
    pub file: String,
    /// A stable word: `torn_tail`, `bad_record`, `bad_header`, `unknown_record`, `bad_index`.
    pub what: String,
    /// Where and how much, for a person.
    pub detail: String,
    /// Whether [`repair`] mends it, and how it was or would be.
    pub repair: String,
}

/// Reads every record and the index, and says what is wrong. Needs the folder's lock.
pub fn verify(folder: &Path) -> Result<DoctorReport, OpenError> {
    verify_on(folder, &(Arc::new(SystemDisk) as Arc<dyn Disk>))
}

/// [`verify`] on a disk of one's own.
pub fn verify_on(folder: &Path, disk: &Arc<dyn Disk>) -> Result<DoctorReport, OpenError> {
    let folder = Folder::open_existing(folder)?;
    inspect(&folder, disk)
}

/// Mends what can be mended. The report says what was found before; its findings' `repair` says what
/// was done.
pub fn repair(folder: &Path) -> Result<DoctorReport, OpenError> {
    repair_on(folder, &(Arc::new(SystemDisk) as Arc<dyn Disk>))
}

/// [`repair`] on a disk of one's own.
pub fn repair_on(folder: &Path, disk: &Arc<dyn Disk>) -> Result<DoctorReport, OpenError> {
    let folder = Folder::open_existing(folder)?;
    let report = inspect(&folder, disk)?;
    let quarantine = Quarantine::new(Arc::clone(disk), folder.quarantine());
    if report.findings.iter().any(|f| f.what == "bad_index") {
        index::move_aside(&folder.index()).map_err(trying("moving the index aside"))?;
    }
    for path in [folder.journal(), folder.dead()] {
        let segments = Segments::new(Arc::clone(disk), path);
        recover::mend(&segments, &quarantine).map_err(trying("mending the journal"))?;
    }
    Ok(report)
}

fn inspect(folder: &Folder, disk: &Arc<dyn Disk>) -> Result<DoctorReport, OpenError> {
    let mut report = DoctorReport::default();
    for path in [folder.journal(), folder.dead()] {
        disk.make_folder(&path).map_err(trying(format!("making {}", path.display())))?;
        let segments = Segments::new(Arc::clone(disk), path);
        inspect_journal(&segments, &mut report).map_err(trying("reading the journal"))?;
    }
    if let Err(why) = inspect_index(folder, disk, &mut report) {
        report.findings.push(Finding {
            file: "index".to_owned(),
            what: "bad_index".to_owned(),
            detail: why,
            repair: "moved aside; the next start builds it from the journal".to_owned(),
        });
    }
    Ok(report)
}

fn inspect_journal(segments: &Segments, report: &mut DoctorReport) -> io::Result<()> {
    let name = |number: u32| {
        let folder = segments.folder.file_name().unwrap_or_default().to_string_lossy();
        format!("{folder}/{number:010}.seg")
    };
    let numbers = segments.on_disk()?;
    let mut limits = Vec::new();
    for number in &numbers {
        report.segments += 1;
        match segments.open(*number) {
            Ok(opened) => limits.extend(opened.header.previous),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                report.findings.push(Finding {
                    file: name(*number),
                    what: "bad_header".to_owned(),
                    detail: error.to_string(),
                    repair: "moved into the quarantine, or removed where it is empty".to_owned(),
                });
            }
            Err(error) => return Err(error),
        }
    }
    for number in numbers {
        let Ok(opened) = segments.open(number) else {
            continue;
        };
        let of_this = limits.iter().filter(|l| l.segment == number);
        let limit = of_this.map(|l| u64::from(l.len_bytes)).min().unwrap_or(u64::MAX);
        let file = name(number);
        let found =
            scan(&*opened.file, opened.header.salt, HEADER_BYTES, limit, |at, kind, body| {
                report.records += 1;
                if !count(report, kind, body) {
                    report.findings.push(Finding {
                        file: file.clone(),
                        what: "unknown_record".to_owned(),
                        detail: format!("at byte {at}"),
                        repair: "stepped over at every start".to_owned(),
                    });
                }
                ControlFlow::Continue(())
            })?;
        report.bytes += found.end;
        let ranges = found.bad.into_iter().map(|range| ("bad_record", range));
        for (what, range) in ranges.chain(found.torn.map(|range| ("torn_tail", range))) {
            report.findings.push(Finding {
                file: file.clone(),
                what: what.to_owned(),
                detail: format!("bytes {} to {}", range.start, range.end),
                repair: "copied into the quarantine and stepped over for good".to_owned(),
            });
        }
    }
    Ok(())
}

fn count(report: &mut DoctorReport, kind: Kind, body: &[u8]) -> bool {
    match kind {
        Kind::Append => append::decode(body, |part| {
            report.events += u64::from(matches!(part, Part::Slot(_)));
        })
        .is_ok(),
        Kind::Settlements => settlement::decode(body, |_| report.settlements += 1).is_ok(),
        Kind::Letter => {
            report.dead_letters += 1;
            letter::decode(body).is_ok()
        }
        Kind::Discard => letter::decode_discard(body).is_ok(),
        Kind::Quarantined => true,
    }
}

/// Loads the checkpoint and the journal behind it as a start would, but leaves the files alone.
fn inspect_index(
    folder: &Folder,
    disk: &Arc<dyn Disk>,
    report: &mut DoctorReport,
) -> Result<(), String> {
    let index = Index::open(&folder.index())?;
    let segments = Arc::new(Segments::new(Arc::clone(disk), folder.journal()));
    let recovered = recover::look(&segments, &index, Timestamp::default())
        .map_err(|e| format!("the journal behind the checkpoint: {e}"))??;
    report.unsettled = recovered.core.lanes.unsettled();
    Ok(())
}
