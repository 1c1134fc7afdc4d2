//! The layer that asks the table before any service sees a request.

use std::task::{Context, Poll};

use futures::future::{Either, Ready, ready};
use tower::Service;
use tracing::debug;

use super::{Caller, admit};

/// A service behind the table: what the table refuses never reaches it.
#[derive(Debug, Clone)]
pub struct Gate<S>(pub S);

impl<S, B> Service<http::Request<B>> for Gate<S>
where
    S: Service<http::Request<B>, Response = http::Response<tonic::body::Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        // A request that nobody put a caller beside has none: what is missing never opens a door.
        let caller = request.extensions().get::<Caller>().and_then(|caller| caller.0.as_ref());
        match admit(request.uri().path(), caller) {
            Ok(()) => Either::Right(self.0.call(request)),
            Err(status) => {
                debug!(code = ?status.code(), cause = status.message(), "call refused");
                Either::Left(ready(Ok(status.into_http())))
            }
        }
    }
}
