//! A limit of time for what is asked of an API server.
//!
//! A connection that is alive says nothing of who answers on it: behind a
//! balancer of connections it ends there, and the API server behind may be
//! frozen.

use crate::{members::Verb, requests::verb};
use http::{Request, Response};
use http_body_util::Either;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;
use tower::{BoxError, Service};
use tower_http::timeout::TimeoutBody;

/// Nothing came for this long.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", .0.as_secs_f32())]
struct Silent(Duration);

/// A client that gives a request up on which nothing comes for a time: neither
/// the head of the answer nor, unless it is a watch, more of its body.
#[derive(Clone, Debug)]
pub(crate) struct TimeLimited<S> {
    client: S,
    /// None where whoever asks sees to it.
    limit: Option<Duration>,
}

impl<S> TimeLimited<S> {
    pub fn new(client: S, limit: Option<Duration>) -> Self {
        Self { client, limit }
    }
}

impl<S, Sent, Answer> Service<Request<Sent>> for TimeLimited<S>
where
    S: Service<
            Request<Sent>,
            Response = Response<Answer>,
            Error = BoxError,
            Future: Send + 'static,
        >,
{
    type Response = Response<Either<TimeoutBody<Answer>, Answer>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.client.poll_ready(context)
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        let limit = self.limit;
        let watch = verb(&request) == Verb::Watch;
        let answer = self.client.call(request);
        Box::pin(async move {
            let Some(limit) = limit else {
                return Ok(answer.await?.map(Either::Right));
            };
            let answer = timeout(limit, answer).await.map_err(|_| Silent(limit))??;
            Ok(answer.map(|body| {
                if watch {
                    Either::Right(body)
                } else {
                    Either::Left(TimeoutBody::new(limit, body))
                }
            }))
        })
    }
}
