//! What polls remember, while the daemon runs: looked at, moved, handed over. A poll whose memory is
//! changed is interrupted first, since a run in hand would write its own cursor over it; what it has
//! appended is durable.

use futures_util::future::join_all;

use super::Engine;
use crate::{
    bus::write_state,
    ingest::poll::state::{self, Rewind, Rewound, StateExport, StreamState},
};

impl Engine {
    /// What is remembered of each stream that polls, or did.
    pub fn poll_states(&self, connector: Option<&str>, stream: Option<&str>) -> Vec<StreamState> {
        state::states(&**self.bus(), connector, stream)
    }

    /// Sets cursors. Errors: for a person.
    pub async fn rewind(&self, wanted: &Rewind) -> Result<Rewound, String> {
        // What is refused leaves the polls alone: one that is held would try again.
        state::rewind(&**self.bus(), wanted)?;
        let _quiet = self.quiet(&wanted.connector).await;
        let (writes, rewound) = state::rewind(&**self.bus(), wanted)?;
        write_state(&**self.bus(), writes).await.map_err(|error| error.to_string())?;
        let Rewind { connector, stream, to, .. } = wanted;
        tracing::info!(connector, stream, ?to, moved = rewound.moved, "cursor rewound by hand");
        Ok(rewound)
    }

    /// Takes over what another daemon remembered. How many entries were written.
    pub async fn import_state(&self, export: &StateExport, replace: bool) -> Result<usize, String> {
        state::import(&**self.bus(), export, replace)?;
        let _quiet = self.quiet(&export.connector).await;
        let writes = state::import(&**self.bus(), export, replace)?;
        let count = writes.len();
        write_state(&**self.bus(), writes).await.map_err(|error| error.to_string())?;
        tracing::info!(connector = export.connector, entries = count, "state imported by hand");
        Ok(count)
    }

    /// Interrupts the polls of a connector, and keeps them from running until what is returned is
    /// dropped.
    async fn quiet(&self, connector: &str) -> Vec<tokio::sync::OwnedMutexGuard<()>> {
        let running = self.running.read().connectors.get(connector).map(std::sync::Arc::clone);
        let Some(running) = running else { return Vec::new() };
        join_all(running.polls.iter().map(|poll| poll.interrupt())).await
    }
}
