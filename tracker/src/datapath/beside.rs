//! What the programs remember beside the flows.

use std::collections::HashMap;

use aya::{Pod, maps::Map};
use tracker_common::abi::{FlowId, History, Refusal};

use super::{
    batch::read_all,
    error::Result,
    names,
    tables::{Tables, descriptor},
};

impl Tables {
    /// The last steps of flows, by the name of the flow
    /// ([`tracker_common::abi::Flow::id`]): those of the flows that moved last.
    ///
    /// # Errors
    ///
    /// The table cannot be read.
    pub fn histories(&self) -> Result<HashMap<u64, History>> {
        by_flow(&self.history, names::HISTORY)
    }

    /// The last refused segment of flows, likewise.
    ///
    /// # Errors
    ///
    /// The table cannot be read.
    pub fn refusals(&self) -> Result<HashMap<u64, Refusal>> {
        by_flow(&self.refusals, names::REFUSALS)
    }
}

/// A table by flow, read as a whole.
fn by_flow<V: Pod + Default>(map: &Map, name: &'static str) -> Result<HashMap<u64, V>> {
    let mut found = HashMap::new();
    read_all(descriptor(map, name)?, name, |flow: &FlowId, value: &V| {
        found.insert(flow.0, *value);
    })?;
    Ok(found)
}
