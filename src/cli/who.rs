//! Who sits at this terminal, for logs of what people did: the name that the system knows them by.
//! It says who asks and proves nothing; who may ask is the daemon's business.

/// `USER` (or `LOGNAME`), and `SUDO_USER` before it where somebody became root.
pub fn user() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    named.unwrap_or_else(|| "somebody without a name".to_owned())
}
