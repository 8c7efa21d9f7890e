//! Executable plans: what the runtime sees of a connector file. Everything is resolved, compiled
//! and checked; nothing here can fail for the file's reasons any more.

mod auth;
mod batch;
mod compile;
mod cursor;
mod decode;
mod diff;
mod each;
mod job;
mod lint;
mod on;
mod page;
mod reconcile;
mod rollout;
mod settings;
mod types;
mod uses;
mod verdict;
mod verify;

pub use auth::*;
pub use batch::{BatchPlan, ResultsPlan};
pub use compile::{
    CompiledFile, Sources, Written, check_set, compile_file, compile_file_with, compile_settings,
    moment, read, schema_document, verify_preset,
};
pub use cursor::{CursorFormat, CursorPlan, CursorStart, Sorted};
pub use decode::{CsvPlan, DecodePlan, Format, Wrapper};
pub use diff::changed;
pub use each::{DetailPlan, EachFrom, EachPlan, Group, Keep, ParentPlan};
pub use job::{DownloadPlan, JobPlan, JobRequest, Lookup};
pub use lint::{Levels, credentials_in};
pub use on::{End, RulePlan, Then, WaitPlan, reads_body};
pub use page::{PageBy, PagePlan};
pub use reconcile::{AgainPlan, Reach, ReconcilePlan, SilencePlan};
pub use rollout::{HaltPlan, RolloutMode, RolloutPlan, Share};
pub use settings::{
    BusKind, BusSettings, EgressSettings, LogSettings, Settings, TenantBudget, TenantSettings,
    WebhookSettings,
};
pub use types::*;
pub use verdict::{Ending, Verdict, VerdictPlan};
pub use verify::{
    Algorithm, BodyHashPlan, CertificateForm, CertificatePlan, ChallengeAnswer, ChallengePlan,
    Encoding, HeaderPattern, HostPattern, JwtAlgorithm, JwtPlan, KeyPlan, KeysForm, KeysPlan,
    Located, Place, SignaturePlan, SignedPart, TimeUnit, TimestampPlan, UrlForm, VerifyPlan,
    VisitPlan,
};
