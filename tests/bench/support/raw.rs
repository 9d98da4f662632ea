//! gRPC with bytes instead of messages, server and client, on tonic as it comes.

use super::LIMIT;
use bytes::{Buf, BufMut, Bytes};
use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, task};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{NamedService, UnaryService},
    transport::Channel,
};

/// Bytes in, bytes out.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(64 << 10, 256 << 10)
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(64 << 10, 256 << 10)
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Bytes, Status>> + Send>>;

/// What a [`Service`] does with a body.
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, body: Bytes) -> Answer;
}

impl<F, A> Handler for F
where
    F: Fn(Bytes) -> A + Send + Sync + 'static,
    A: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    fn handle(&self, body: Bytes) -> Answer {
        Box::pin(self(body))
    }
}

/// `TraceService` over raw bytes.
pub struct Service<H>(Arc<H>, Option<CompressionEncoding>);

impl<H> Clone for Service<H> {
    fn clone(&self) -> Self {
        Service(self.0.clone(), self.1)
    }
}

impl<H: Handler> Service<H> {
    /// Takes requests compressed like this, and those that are not.
    pub fn new(compression: Option<CompressionEncoding>, handler: H) -> Self {
        Service(Arc::new(handler), compression)
    }
}

impl<H> NamedService for Service<H> {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

struct Unary<H>(Arc<H>);

impl<H: Handler> UnaryService<Bytes> for Unary<H> {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let answer = self.0.handle(request.into_inner());
        Box::pin(async move { answer.await.map(Response::new) })
    }
}

impl<H: Handler> tower::Service<http::Request<Body>> for Service<H> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<Result<(), Infallible>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Service(handler, compression) = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(RawCodec).max_decoding_message_size(LIMIT);
            if let Some(compression) = compression {
                grpc = grpc.accept_compressed(compression);
            }
            Ok(grpc.unary(Unary(handler), request).await)
        })
    }
}

/// A client of `TraceService` over raw bytes.
#[derive(Clone)]
pub struct Client(tonic::client::Grpc<Channel>);

impl Client {
    /// Sends requests compressed like this.
    pub fn new(channel: Channel, compression: Option<CompressionEncoding>) -> Client {
        let client = tonic::client::Grpc::new(channel).max_encoding_message_size(LIMIT);
        Client(match compression {
            // Answers may come in what requests are sent in.
            Some(compression) => client.send_compressed(compression).accept_compressed(compression),
            None => client,
        })
    }

    pub async fn export(&mut self, body: Bytes) -> Result<Bytes, Status> {
        self.0.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        Ok(self.0.unary(Request::new(body), path, RawCodec).await?.into_inner())
    }
}
