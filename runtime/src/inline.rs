//! A future whose parts wake each other goes on where it is, without a trip through the scheduler.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use pin_project_lite::pin_project;

pin_project! {
    /// Polls its future again at once where that woke itself while it was polled.
    ///
    /// A task that wakes itself is put into its worker's queue, which wakes a second worker to help with it: a call of
    /// the system and a wake-up of another core, for nothing. Two ends of HTTP in one task do that at every message.
    pub(crate) struct Inline<F> {
        #[pin]
        future: F,
        bell: Arc<Bell>,
        waker: Waker,
    }
}

/// What the future is given as its task.
struct Bell {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl<F: Future> Inline<F> {
    pub(crate) fn new(future: F) -> Self {
        let bell = Arc::new(Bell { state: AtomicU8::new(QUIET), task: Mutex::default() });
        Self { future, waker: Waker::from(Arc::clone(&bell)), bell }
    }
}

impl<F: Future> Future for Inline<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        this.bell.belongs_to(cx.waker());
        for _ in 0..TURNS {
            this.bell.state.store(POLLED, Ordering::Release);
            if let Poll::Ready(output) = this.future.as_mut().poll(&mut Context::from_waker(this.waker)) {
                return Poll::Ready(output);
            }
            if this.bell.state.swap(QUIET, Ordering::AcqRel) == POLLED {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Bell {
    fn belongs_to(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *task {
            Some(known) => known.clone_from(waker),
            None => *task = Some(waker.clone()),
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let rung = self.state.compare_exchange(POLLED, RUNG, Ordering::AcqRel, Ordering::Acquire);
        if rung == Err(QUIET) {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.iter().for_each(Waker::wake_by_ref);
        }
    }
}

/// Nobody polls: whoever wakes has to wake the task.
const QUIET: u8 = 0;
/// Being polled, and not woken since that began.
const POLLED: u8 = 1;
/// Woken while being polled.
const RUNG: u8 = 2;
/// Polls in a row; then others have their turn.
const TURNS: usize = 8;

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use futures_util::{FutureExt, task::noop_waker};

    use super::*;

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Wakes itself so many times before it is done, and keeps its last waker.
    fn restless(mut times: usize, kept: &Mutex<Option<Waker>>) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            *kept.lock().unwrap() = Some(cx.waker().clone());
            if times == 0 {
                return Poll::Ready(());
            }
            times -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn what_wakes_itself_goes_on_without_its_task_being_woken() {
        let (woken, kept) = (Arc::<Woken>::default(), Mutex::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut inline = std::pin::pin!(Inline::new(restless(TURNS - 1, &kept)));
        assert!(inline.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        assert_eq!(woken.times(), 0);
    }

    #[test]
    fn what_never_rests_lets_others_have_their_turn() {
        let (woken, kept) = (Arc::<Woken>::default(), Mutex::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut inline = std::pin::pin!(Inline::new(restless(TURNS, &kept)));
        assert!(inline.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(woken.times(), 1);
        assert!(inline.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[test]
    fn whoever_wakes_it_between_two_polls_wakes_the_task_that_polled_last() {
        let kept = Mutex::default();
        let mut polls = 0;
        let mut inline = Inline::new(poll_fn(|cx| {
            polls += 1;
            *kept.lock().unwrap() = Some(cx.waker().clone());
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert!(inline.poll_unpin(&mut Context::from_waker(&noop_waker())).is_pending());
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        assert!(inline.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        let inner = kept.lock().unwrap().take().unwrap();
        inner.wake_by_ref();
        inner.wake();
        assert_eq!(woken.times(), 2);
        assert!(inline.poll_unpin(&mut Context::from_waker(&waker)).is_ready());
    }
}
