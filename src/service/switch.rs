//! Where a receiver hands its requests: the pipelines of today's configuration, exchanged as a whole on reload.

use crate::{
    otlp::Signal,
    pipeline::{Accepted, Gateway, Ingest, Origin, Refusal},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::{future::Future, pin::Pin, sync::Arc};

/// A gateway that can be exchanged while requests come in. A request in hand stays with the gateway it began with.
pub struct Switch(ArcSwap<Gateway>);

impl Switch {
    /// Begins with this gateway.
    pub fn new(gateway: Gateway) -> Self {
        Switch(ArcSwap::from_pointee(gateway))
    }

    /// Sends the requests that begin from now on to `gateway`; answers the one before, which nobody else holds once
    /// its last request is answered.
    pub fn to(&self, gateway: Gateway) -> Arc<Gateway> {
        self.0.swap(Arc::new(gateway))
    }
}

impl Ingest for Switch {
    fn takes(&self, signal: Signal) -> bool {
        self.0.load().takes(signal)
    }

    fn export(
        &self,
        signal: Signal,
        body: Bytes,
        origin: Origin,
    ) -> Pin<Box<dyn Future<Output = Result<Accepted, Refusal>> + Send + '_>> {
        let gateway = self.0.load_full();
        Box::pin(async move { gateway.export(signal, body, origin).await })
    }
}
