//! Guards the client against malformed and oversized answers of the API server.
//!
//! kube parses each answer as a whole. `serde_json` refuses an object in which a tenant nested a field 128 levels deep.
//! Then kube can't read any object of the list, and it logs the whole list. So each answer first passes this guard, as
//! its bytes arrive:
//!
//! - The guard drops data that the operator does not read: `managedFields`, and on the operator's own kinds all labels
//!   and all annotations except those that it reads. Only in an answer about one Secret do `managedFields` pass, within
//!   a bound, because a condition names another writer of a Secret by them.
//! - The guard omits a part of an object that is too deep or too large, and adds a note to the object ([`omissions`]).
//!   A tenant can't forge the note: the guard removes it from the API server's answers.
//! - An answer that is not JSON fails with an error that contains none of its bytes.
//!
//! The memory for an answer is bounded by the largest object that passes.

mod bounds;
mod extent;
mod object;
mod refusal;
mod split;

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Response, header};
use http_body::{Body, Frame};
use hyper::body::{Buf, Bytes};
use tower::BoxError;

pub(crate) use bounds::{Omission, PARAMETERS, Size, note_omissions, omissions, without_note};

use super::metrics::ApiRequest;
use bounds::ObjectBounds;
use object::SieveError;
use refusal::RefusalBody;
use split::{Shape, Splitter};

/// Returns the answer to a request with its body guarded.
pub(super) fn guarded<B>(asked: ApiRequest, answer: Response<B>) -> Response<GuardedBody<B>> {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    let status = head.status;
    let passage = if status.is_client_error() || status.is_server_error() {
        Passage::Refusal(RefusalBody::new(status.as_u16()))
    } else {
        Passage::Answer(splitter(asked))
    };
    Response::from_parts(head, GuardedBody { body, asked, passage: Some(passage) })
}

fn splitter(asked: ApiRequest) -> Box<Splitter> {
    let shape = match asked.verb {
        "list" => Shape::List,
        "watch" => Shape::Watch,
        _ => Shape::Single,
    };
    Box::new(Splitter::new(shape, ObjectBounds::for_resource(asked.resource, shape != Shape::Single)))
}

/// The filter of an answer, by its kind.
#[derive(Debug)]
enum Passage {
    Answer(Box<Splitter>),
    Refusal(RefusalBody),
}

/// The body of an answer behind the guard.
#[derive(Debug)]
pub(super) struct GuardedBody<B> {
    body: B,
    asked: ApiRequest,
    /// `None` once the answer has ended.
    passage: Option<Passage>,
}

impl<B> Body for GuardedBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let Some(passage) = &mut this.passage else { return Poll::Ready(None) };
            let passed = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let Ok(mut data) = frame.into_data() else { continue };
                    passage.push(&data.copy_to_bytes(data.remaining()))
                }
                Some(Err(error)) => {
                    this.passage = None;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    let rest = passage.finish();
                    this.passage = None;
                    rest
                }
            };
            match passed {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(why) => {
                    this.passage = None;
                    return Poll::Ready(Some(Err(Box::new(UnreadableAnswer { asked: this.asked, why }))));
                }
            }
        }
    }
}

impl Passage {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SieveError> {
        match self {
            Self::Answer(splitter) => splitter.push(bytes),
            Self::Refusal(refusal) => {
                refusal.push(bytes);
                Ok(Vec::new())
            }
        }
    }

    fn finish(&self) -> Result<Vec<u8>, SieveError> {
        match self {
            Self::Answer(splitter) => splitter.finish().map(|()| Vec::new()),
            Self::Refusal(refusal) => Ok(refusal.finish()),
        }
    }
}

/// The error of an answer that does not pass. It contains nothing from the answer.
#[derive(Debug)]
struct UnreadableAnswer {
    asked: ApiRequest,
    why: SieveError,
}

impl fmt::Display for UnreadableAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked: ApiRequest { verb, resource }, why } = self;
        write!(f, "the API server's answer to `{verb} {resource}` can't be read: {why}")
    }
}

impl StdError for UnreadableAnswer {}

#[cfg(test)]
mod tests;
