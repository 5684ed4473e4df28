//! A handler that knows a parameter by another name than the document does.

use std::{collections::BTreeMap, sync::Arc};

use exuvia_core::{Call, Failure, HandlerInfo, InputFault, OutcomeFuture, Target};

use super::document::escape;

/// Gives a handler what came under the document's names by its own.
pub(super) struct Renamed {
    inner: Arc<dyn Target>,
    info: Arc<HandlerInfo>,
    /// The document's name to the handler's.
    names: Arc<BTreeMap<String, String>>,
}

// === impl Renamed ===

impl Renamed {
    /// `inner`, where it has other names than `names`, from the document's to the handler's.
    pub(super) fn around(
        inner: &Arc<dyn Target>,
        names: BTreeMap<String, String>,
    ) -> Arc<dyn Target> {
        if names.is_empty() {
            return inner.clone();
        }
        let mut info = HandlerInfo::clone(inner.info());
        for param in &mut info.params {
            if let Some((name, _)) = names.iter().find(|(_, own)| **own == param.name) {
                param.name.clone_from(name);
            }
        }
        Arc::new(Self { inner: inner.clone(), info: Arc::new(info), names: Arc::new(names) })
    }
}

impl Target for Renamed {
    fn info(&self) -> &Arc<HandlerInfo> {
        &self.info
    }

    fn call(&self, mut call: Call) -> OutcomeFuture {
        for (name, _) in &mut call.text_arguments {
            if let Some(own) = self.names.get(name) {
                name.clone_from(own);
            }
        }
        let called = self.inner.call(call);
        let names = self.names.clone();
        Box::pin(async move {
            let mut outcome = called.await;
            if let Err(failure) = &mut outcome.result
                && let Failure::Input { faults } = &mut **failure
            {
                faults.iter_mut().for_each(|fault| rename(fault, &names));
            }
            outcome
        })
    }
}

/// Says of `fault` where it is in the client's words.
fn rename(fault: &mut InputFault, names: &BTreeMap<String, String>) {
    let Some(rest) = fault.pointer.strip_prefix('/') else { return };
    let (first, below) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if let Some((name, _)) = names.iter().find(|(_, own)| *own == first) {
        fault.pointer = format!("/{}{below}", escape(name));
    }
}
