//! `auth = "{{ vars.auth }}"`.

use super::rig::{compile, said};

const TABLES: &str = "[auth.key]\ntype = \"header\"\nname = \"X-Key\"\nvalue = \"{{ secret.API_KEY }}\"\n\
    [auth.app]\ntype = \"oauth2\"\ngrant = \"client_credentials\"\ntoken_url = \"https://l.example/\"\n\
    client_id = \"{{ secret.ID }}\"\nclient_secret = \"{{ secret.SECRET }}\"\n";

#[test]
fn the_variable_chooses_and_only_what_is_chosen_needs_its_secrets() {
    for (value, needed) in [("key", vec!["API_KEY"]), ("app", vec!["ID", "SECRET"])] {
        let vars = format!("[vars.auth]\none_of = [\"key\", \"app\"]\ndefault = \"{value}\"\n");
        let compiled = compile("{{ vars.auth }}", &(vars + TABLES));
        let diagnostics = format!("{:?}", compiled.diagnostics);
        let plan = compiled.plan.unwrap_or_else(|| panic!("{diagnostics}"));
        assert_eq!(plan.secrets_used, needed);
        assert_eq!(plan.auths.keys().map(|name| &**name).collect::<Vec<_>>(), [value]);
        assert!(!diagnostics.contains("never used"), "{diagnostics}");
    }
}

#[test]
fn every_value_is_checked() {
    let bounded = "[vars.auth]\none_of = [\"key\", \"apps\"]\ndefault = \"key\"\n";
    insta::assert_snapshot!(said("{{ vars.auth }}", &format!("{bounded}{TABLES}")));
    let open = "[vars]\nauth = \"key\"\n";
    insta::assert_snapshot!(said("{{ vars.auth }}", &format!("{open}{TABLES}")));
}
