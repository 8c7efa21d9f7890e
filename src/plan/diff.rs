//! What differs between two plans.

use super::ConnectorPlan;

/// Whether the new plan does anything else than the old: formatting, comments, a moved file, tests
/// and the changelog are no difference.
pub fn changed(old: &ConnectorPlan, new: &ConnectorPlan) -> bool {
    old.name != new.name || old.content != new.content
}
