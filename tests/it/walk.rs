//! How a source is walked, from the connector file to what is durable: rules, cursors, pages.

mod ahead;
mod cursor;
mod decode;
mod like;
mod on;
mod page;
mod rate;
