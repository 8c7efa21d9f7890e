//! Credentials as a file writes them: what a request carries, who is asked for tokens, what is signed.

mod certificate;
mod choice;
mod login;
mod person;
mod rig;
mod signed;
mod stored;
