//! Streams that the cloud opens, as the device meets them.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crate::{
    OpenError, StreamHeader, TunnelStream,
    driver::{Arrived, Shared},
};

/// The queue of streams whose header has arrived. Dropping it resets those and all later ones.
#[derive(Debug)]
pub struct Incoming {
    shared: Arc<Shared>,
}

impl Incoming {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The next stream; `None` when the session has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<IncomingStream> {
        let arrived = poll_fn(|cx| {
            self.shared.act(|state, _| match state.next_arrived(cx) {
                Some(arrived) => Poll::Ready(Some(arrived)),
                None if state.cause.is_some() => Poll::Ready(None),
                None => Poll::Pending,
            })
        })
        .await?;
        let Arrived { id, header, rest } = arrived;
        let stream = TunnelStream::arrived(Arc::clone(&self.shared), id, header.kind, rest);
        Some(IncomingStream { header, stream })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.act(|state, now| {
            if let Some(arrivals) = &mut state.arrivals {
                arrivals.close(&mut state.session, now);
            }
        });
    }
}

/// A stream that waits for the device's answer. Dropped without one, it is reset.
#[derive(Debug)]
#[must_use]
pub struct IncomingStream {
    /// What the cloud said about it.
    pub header: StreamHeader,
    stream: TunnelStream,
}

impl IncomingStream {
    /// Answers that the local connection stands; then bytes flow.
    ///
    /// If the stream or the session ended meanwhile, the stream that is returned says so at its first use.
    pub async fn accept(mut self) -> TunnelStream {
        // A failure is found again by whoever reads or writes.
        let _ = poll_fn(|cx| self.stream.poll_give_answer(cx, None)).await;
        self.stream
    }

    /// Answers why not, and ends the stream. [`OpenError::Offline`] and [`OpenError::Lost`] have no answer on the
    /// wire: the stream is reset.
    pub fn reject(mut self, error: OpenError) {
        let cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Ok(())) = self.stream.poll_give_answer(&cx, Some(error)) {
            // The answer leaves before the reset that follows when the stream is dropped.
            self.stream.finish();
        }
    }
}
