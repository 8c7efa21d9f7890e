//! Schemes that fail open do not load; see `docs/errors/E0509.md`.

use super::rig::{connector_file, problems_of};

fn problems(tables: &str, keys: &str) -> Vec<String> {
    let stream =
        "[stream.a]\nkey = \"$.id\"\n[stream.a.webhook]\npath = \"/a\"\nverify = \"acme\"\n";
    problems_of(&connector_file("shop", &format!("{tables}\n{stream}{keys}")))
}

const SECRET: &str = "secret = \"{{ secret.A }}\"\n";

/// A sound scheme of each kind, and what makes each fail open: what to replace by what, and the code.
struct Case {
    sound: &'static str,
    keys: &'static str,
    broken: &'static [(&'static str, &'static str, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        sound: r#"
[verify.acme]
algorithm = "hmac-sha256"
signed    = "{{ timestamp }}.{{ body }}"

[verify.acme.signature]
header = "X-Sign"

[verify.acme.timestamp]
header = "X-Time"
"#,
        keys: SECRET,
        broken: &[
            ("{{ body }}", "x", "E0506"),
            ("{{ body }}", "{{ body_crc32 }}", "E0506"),
            ("{{ body }}", "{{ bdoy }}", "E0505"),
            ("{{ body }}", "{{ request.query.x }}", "E0505"),
            ("{{ timestamp }}.", "", "W0501"),
            ("[verify.acme.timestamp]\nheader = \"X-Time\"", "", "E0507"),
            ("[verify.acme.timestamp]\nheader = \"X-Time\"", "[verify.acme.timestamp]", "E0507"),
            ("header = \"X-Time\"", "header = \"X-Time\"\nquery = \"t\"", "E0108"),
            ("header = \"X-Sign\"", "header = \"*\"", "E0702"),
            ("\"hmac-sha256\"", "\"hmac-sha257\"", "E0106"),
            ("\"hmac-sha256\"", "\"none\"", "E0109"),
            ("\"hmac-sha256\"", "\"jwt\"", "E0507"),
            ("\"hmac-sha256\"", "\"mtls\"", "E0507"),
            (
                "[verify.acme.signature]",
                "[verify.acme.key]\ndecode = \"pem\"\n[verify.acme.signature]",
                "E0509",
            ),
            (
                "[verify.acme.signature]",
                "[verify.acme.body_hash]\nheader = \"X-Hash\"\n[verify.acme.signature]",
                "E0509",
            ),
            (
                "[verify.acme.signature]",
                "[verify.acme.challenge]\nwhen = \"{{ request.body.c }}\"\nverified = false\n[verify.acme.signature]",
                "E0509",
            ),
            // Without its marks a template is a text, and a text is true.
            ("signed    =", "require = \"request.body.account == 'acme'\"\nsigned    =", "E0509"),
            (
                "[verify.acme.signature]",
                "[verify.acme.challenge]\nwhen = \"request.body.c\"\n[verify.acme.signature]",
                "E0509",
            ),
            (
                "[verify.acme.signature]",
                "[verify.acme.challenge]\nwhen = \"{{ request.query.c }}\"\nverified = false\nvisit = \"{{ request.query.u }}\"\nhosts = \"a.example\"\n[verify.acme.signature]",
                "E0509",
            ),
            (
                "[verify.acme.signature]",
                "[verify.acme.challenge]\nwhen = \"{{ request.body.c }}\"\nvisit = \"{{ request.body.u }}\"\n[verify.acme.signature]",
                "E0509",
            ),
        ],
    },
    Case {
        sound: r#"
[verify.acme]
algorithm = "sha256-concat"
signed    = "{{ secret }}{{ body }}"

[verify.acme.signature]
header = "X-Sign"
"#,
        keys: SECRET,
        broken: &[("{{ secret }}", "", "E0509")],
    },
    Case {
        sound: r#"
[verify.acme]
algorithm   = "hmac-sha256"
signed      = "{{ timestamp }}{{ request.body.id }}"
covers_body = false
once        = "{{ request.body.id }}"

[verify.acme.signature]
body = "$.sign"

[verify.acme.timestamp]
body = "$.time"
"#,
        keys: SECRET,
        broken: &[
            ("covers_body = false\n", "", "E0506"),
            (
                "once        = \"{{ request.body.id }}\"",
                "once = \"{{ request.body.other }}\"",
                "E0509",
            ),
            (
                "once        = \"{{ request.body.id }}\"",
                "once = \"{{ request.headers['x-id'] }}\"",
                "E0509",
            ),
            ("{{ timestamp }}", "", "W0501"),
            ("[verify.acme.timestamp]\nbody = \"$.time\"", "", "E0507"),
        ],
    },
    Case {
        sound: r#"
[verify.acme]
algorithm = "jwt"

[verify.acme.jwt]
algorithms = ["RS256", "ES256"]
issuer     = "https://id.acme.example"

[verify.acme.keys]
url = "https://id.acme.example/jwks.json"

[verify.acme.signature]
header = "Authorization"
take   = "Bearer "

[verify.acme.body_hash]
claim = "hash"
"#,
        keys: "",
        broken: &[
            ("algorithms = [\"RS256\", \"ES256\"]\n", "", "E0105"),
            ("\"ES256\"", "\"none\"", "E0106"),
            ("\"ES256\"", "\"HS256\"", "E0509"),
            ("[verify.acme.body_hash]\nclaim = \"hash\"", "", "E0506"),
            ("https://id.acme.example/jwks.json", "http://id.acme.example/jwks.json", "E0509"),
            ("https://id.acme.example/jwks.json", "{{ request.headers['x-keys'] }}", "E0509"),
            (
                "https://id.acme.example/jwks.json",
                "https://{{ request.headers['x-host'] }}/jwks.json",
                "E0509",
            ),
            ("/jwks.json\"\n", "/jwks.json\"\nhosts = \"*.example\"\n", "E0402"),
            (
                "\"Bearer \"\n",
                "\"Bearer \"\n[verify.acme.certificate]\nheader = \"a\"\nallow = []\n",
                "E0509",
            ),
        ],
    },
];

#[test]
fn what_fails_open_does_not_load() {
    for case in CASES {
        let found = problems(case.sound, case.keys);
        let found: Vec<_> = found.iter().filter(|code| !code.starts_with('N')).collect();
        assert!(found.is_empty(), "{found:?}\n{}", case.sound);
        for (from, to, code) in case.broken {
            assert!(case.sound.contains(from), "{from}");
            let found = problems(&case.sound.replace(from, to), case.keys);
            assert!(
                found.iter().any(|found| found == code),
                "{from} → {to}: expected {code}, found {found:?}"
            );
        }
    }
}

#[test]
fn secrets_are_neither_empty_nor_given_to_who_has_none() {
    let sound = CASES[0].sound;
    assert_eq!(problems(sound, "secret = \"\""), ["E0504"]);
    assert_eq!(problems(sound, ""), ["E0503"]);
    assert_eq!(problems(CASES[3].sound, SECRET), ["E0109"]);
    let none = "[verify.acme]\nalgorithm = \"none\"\n";
    assert_eq!(problems(none, SECRET), ["E0109"]);
    assert_eq!(problems("", "verify = \"acme\""), ["E0102"]);
    let unknown = connector_file(
        "shop",
        "[stream.a]\nkey = \"$.id\"\n[stream.a.webhook]\npath = \"/a\"\nverify = \"githup\"\n",
    );
    assert_eq!(problems_of(&unknown), ["E0204"]);
}

/// A token of an issuer that serves others, too, is one of theirs.
#[test]
fn a_shared_issuer_must_be_narrowed() {
    let shared = CASES[3]
        .sound
        .replace("issuer     = \"https://id.acme.example\"\n", "")
        .replace("[verify.acme.body_hash]\nclaim = \"hash\"", "")
        .replace("algorithm = \"jwt\"", "algorithm = \"jwt\"\ncovers_body = false");
    assert!(problems(&shared, "").contains(&"E0509".to_owned()));
}
