//! Client certificates that a proxy checked and passes on in a header. Pure.
//!
//! The proxy ends TLS, so it is the proxy that verifies the certificate's chain and that the client
//! has its key; the token beside it shows that it was the proxy that wrote the header. What is left to
//! decide here is whose certificate it is.

use data_encoding::{BASE64_NOPAD, HEXLOWER_PERMISSIVE};
use http::HeaderMap;
use ring::digest;

use super::{locate::single_header, public::unarmoured, verify::Reject};
use crate::plan::{CertificateForm, CertificatePlan};

/// Whether the header holds, once, a certificate that may post.
pub(super) fn check(plan: &CertificatePlan, headers: &HeaderMap) -> Result<(), Reject> {
    let text = single_header(headers, &plan.header).ok_or(Reject::WrongCertificate)?;
    let print = fingerprint(plan.form, text.trim()).ok_or(Reject::WrongCertificate)?;
    let is_known = plan.allow.iter().any(|known| known.as_slice() == print);
    if is_known { Ok(()) } else { Err(Reject::WrongCertificate) }
}

fn fingerprint(form: CertificateForm, text: &str) -> Option<Vec<u8>> {
    let der = match form {
        CertificateForm::Fingerprint => {
            let digits: String = text.chars().filter(|c| *c != ':').collect();
            return HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
        }
        CertificateForm::Der => {
            let digits = text.trim_matches(':').trim_end_matches('=');
            BASE64_NOPAD.decode(digits.as_bytes()).ok()?
        }
        CertificateForm::Pem => {
            let text = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
            let (label, der) = unarmoured(&text)?;
            (label == "CERTIFICATE").then_some(der)?
        }
    };
    Some(digest::digest(&digest::SHA256, &der).as_ref().to_vec())
}
