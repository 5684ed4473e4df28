//! What the workers of a pool are made from at present.

use std::time::Duration;

use crate::{
    config::{ImageStatus, PoolConfig, StartMethod},
    state::{Shared, Started},
    zygote::Handle,
};

/// The image, and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) source: Source,
    pub(crate) status: ImageStatus,
}

/// Where the next worker comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// From the zygote that is being made: wait.
    Warming,
    /// From this zygote.
    Fork(Handle),
    /// From nothing.
    Spawn,
}

impl Image {
    pub(crate) fn new(config: &PoolConfig) -> Self {
        let start = config.image.start;
        let status = ImageStatus {
            start,
            why_spawn: None,
            zygote: None,
            took: Duration::ZERO,
            imports: Vec::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
            memory: None,
        };
        let source = match start {
            StartMethod::Fork => Source::Warming,
            StartMethod::Spawn => Source::Spawn,
        };
        Self { source, status }
    }
}

impl Shared {
    /// The image now.
    pub(crate) fn image(&self) -> Image {
        self.image.borrow().clone()
    }

    /// The image once it is known where workers come from; `None` when the pool is stopped, as
    /// then it may never be.
    pub(crate) async fn settled_image(&self) -> Option<Image> {
        let (mut image, mut halted) = (self.image.subscribe(), self.halted.subscribe());
        tokio::select! {
            biased;
            _ = halted.wait_for(|halted| *halted) => None,
            settled = image.wait_for(|image| !matches!(image.source, Source::Warming)) => {
                // The sender lives in what we are borrowed from.
                settled.ok().map(|image| image.clone())
            }
        }
    }

    /// Says where workers come from now on.
    pub(crate) fn publish(&self, source: Source, change: impl FnOnce(&mut ImageStatus)) {
        self.image.send_modify(|image| {
            image.status.start = match source {
                Source::Warming | Source::Fork(_) => StartMethod::Fork,
                Source::Spawn => StartMethod::Spawn,
            };
            image.source = source;
            change(&mut image.status);
        });
    }

    /// Workers are started afresh until an image comes to be. They show whether it was for the
    /// image, and get on if it was.
    pub(crate) fn without_image(&self, why: &str) {
        self.say_later(&format!("the image could not be made: {why}"));
        self.publish(Source::Spawn, |status| status.why_spawn = Some(why.to_owned()));
    }

    /// Workers of this pool are started afresh for good.
    pub(crate) fn spawn_instead(&self, why: String) {
        self.say_later(&format!("workers are started afresh from now on: {why}"));
        self.publish(Source::Spawn, |status| {
            status.zygote = None;
            status.why_spawn = Some(why);
        });
    }

    /// Says something of the image, unless whoever starts the pool will see it in its status.
    pub(crate) fn say_later(&self, words: &str) {
        if matches!(*self.started.borrow(), Started::Waiting) {
            tracing::debug!("{words}");
        } else {
            tracing::warn!("{words}");
        }
    }
}
