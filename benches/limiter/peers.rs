//! Other limiters as clients of the test bench: tower and governor themselves, the others as small models.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::lab::{Client, Take};
use governor::clock::{Clock as _, FakeRelativeClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use leadgate::error::Limit;
use leadgate::quota::Verdict;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tower::limit::{RateLimit, rate::Rate};
use tower::{Service, ServiceExt, service_fn};

/// One call per interval. A timer that fires late does not delay later ticks.
pub(crate) struct Paced {
    every: Duration,
    next: Option<Instant>,
}

impl Paced {
    pub(crate) fn new(limit: Limit) -> Self {
        Self {
            every: limit.per / limit.calls,
            next: None,
        }
    }
}

impl Client for Paced {
    type Pass = ();

    fn take(&mut self, now: Instant) -> Take<()> {
        match self.next {
            Some(next) if now < next => Take::At(next),
            _ => {
                let tick = self.next.filter(|next| now - *next < self.every).unwrap_or(now);
                self.next = Some(tick + self.every);
                Take::Granted(())
            }
        }
    }

    fn ended(&mut self, (): (), _: Instant, _: Instant, _: Option<Verdict>) {}
}

/// At most N calls in W plus a fixed margin, by sending times.
pub(crate) struct Log {
    limit: Limit,
    margin: Duration,
    sent: VecDeque<Instant>,
}

impl Log {
    pub(crate) fn new(limit: Limit, margin: Duration) -> Self {
        Self {
            limit,
            margin,
            sent: VecDeque::new(),
        }
    }
}

impl Client for Log {
    type Pass = ();

    fn take(&mut self, now: Instant) -> Take<()> {
        let held = self.limit.per + self.margin;
        if self.sent.len() == self.limit.calls as usize {
            let free = self.sent[0] + held;
            if now < free {
                return Take::At(free);
            }
            self.sent.pop_front();
        }
        self.sent.push_back(now);
        Take::Granted(())
    }

    fn ended(&mut self, (): (), _: Instant, _: Instant, _: Option<Verdict>) {}
}

type Send = fn(()) -> Ready<Result<(), std::convert::Infallible>>;

/// tower's own `RateLimit`, in a runtime whose paused clock follows that of the test bench.
pub(crate) struct Tower {
    runtime: Runtime,
    service: RateLimit<tower::util::ServiceFn<Send>>,
    /// The same moment by the clock of the test bench and by that of the runtime.
    start: Option<(Instant, Instant)>,
}

impl Tower {
    pub(crate) fn new(limit: Limit) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without threads needs nothing");
        let rate = Rate::new(limit.calls.into(), limit.per);
        let send: Send = |()| ready(Ok(()));
        let service = runtime.block_on(async { RateLimit::new(service_fn(send), rate) });
        Self {
            runtime,
            service,
            start: None,
        }
    }
}

impl Client for Tower {
    type Pass = ();

    fn take(&mut self, now: Instant) -> Take<()> {
        let Self {
            runtime,
            service,
            start,
        } = self;
        runtime.block_on(async {
            let (lab, own) = *start.get_or_insert_with(|| (now, Instant::now()));
            let now = own + (now - lab);
            tokio::time::advance(now.saturating_duration_since(Instant::now())).await;
            // If it has to wait, the paused clock jumps to the end of the wait.
            let Ok(service) = service.ready().await;
            if Instant::now() > now {
                return Take::At(lab + (Instant::now() - own));
            }
            let Ok(()) = service.call(()).await;
            Take::Granted(())
        })
    }

    fn ended(&mut self, (): (), _: Instant, _: Instant, _: Option<Verdict>) {}
}

type Gcra = RateLimiter<
    NotKeyed,
    InMemoryState,
    FakeRelativeClock,
    NoOpMiddleware<<FakeRelativeClock as governor::clock::Clock>::Instant>,
>;

/// governor's own `RateLimiter`, whose clock follows that of the test bench.
pub(crate) struct Governor {
    clock: FakeRelativeClock,
    limiter: Gcra,
    now: Option<Instant>,
}

impl Governor {
    pub(crate) fn new(limit: Limit) -> Self {
        let burst = NonZeroU32::new(limit.calls).expect("a limit is at least 1");
        let quota = Quota::with_period(limit.per / limit.calls)
            .expect("a window is longer than nothing")
            .allow_burst(burst);
        let clock = FakeRelativeClock::default();
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            now: None,
        }
    }
}

impl Client for Governor {
    type Pass = ();

    fn take(&mut self, now: Instant) -> Take<()> {
        self.clock.advance(now - self.now.replace(now).unwrap_or(now));
        match self.limiter.check() {
            Ok(()) => Take::Granted(()),
            Err(refusal) => {
                let wait = refusal.earliest_possible().duration_since(self.clock.now());
                Take::At(now + Duration::from(wait))
            }
        }
    }

    fn ended(&mut self, (): (), _: Instant, _: Instant, _: Option<Verdict>) {}
}
