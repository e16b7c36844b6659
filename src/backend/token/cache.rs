//! Decides when to request a token: if there is no valid one, if the current one is due for renewal, and if the remote
//! side refuses it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{TRIED_AGAIN, Token};
use crate::backend::{
    BackendError, ErrorClass, FIRST_LOGIN_PAUSE, LOGIN_PAUSE,
    single_flight::{CachedAnswer, SingleFlight},
};

/// The pause between token requests after a failure, unless the server requires a longer one. Every key of a provider
/// needs the token, and each has its own backoff. Without the pause, their requests would follow each other at a server
/// that is in trouble.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(2);
/// After a refused token was dropped, no other is dropped for this long: a remote side that also refuses the next one
/// refuses them all.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(10);

/// The token of one login.
///
/// It is used until it expires, and renewed after four fifths of its life: by one call, while all others continue with
/// the old one.
pub(super) struct TokenCache {
    tokens: SingleFlight<Token>,
    /// When a refused token was last dropped.
    given_up: Mutex<Option<Instant>>,
    /// Whether the server refused the login at the last attempt.
    login_refused: AtomicBool,
}

impl Default for TokenCache {
    fn default() -> Self {
        let kept = |error: &BackendError| error.retry_after.unwrap_or_default().max(PAUSE_AFTER_FAILURE);
        let tokens = SingleFlight::kept(kept);
        Self { tokens, given_up: Mutex::default(), login_refused: AtomicBool::default() }
    }
}

impl TokenCache {
    /// A cache for a login that the server refused before. It waits this long until the next attempt.
    pub(super) fn pausing(pause: Duration) -> Self {
        let what =
            format!("the server refused this login to an earlier process of the operator{TRIED_AGAIN}");
        let Self { tokens, given_up, login_refused: _ } = Self::default();
        let refused = BackendError::new(ErrorClass::Forbidden, what).of_login().pausing(pause);
        Self { tokens: tokens.failed(refused), given_up, login_refused: true.into() }
    }

    /// Returns a valid token. Only one caller at a time calls `ask`.
    ///
    /// # Errors
    /// Those of `ask` if there is no valid token.
    pub(super) async fn current<F>(&self, ask: impl Fn() -> F) -> Result<Arc<Token>, BackendError>
    where
        F: Future<Output = Result<Token, BackendError>>,
    {
        let ask = || self.counted(ask());
        let known = self.tokens.get(lives, ask).await?;
        if !is_due(&known) {
            return Ok(known.value);
        }
        match self.tokens.renew(is_due, ask).await {
            Some(Ok(newer)) => Ok(newer.value),
            Some(Err(error)) if lives(&known) => {
                tracing::warn!(%error, "failed to renew a token; the current one is still valid");
                Ok(known.value)
            }
            Some(Err(error)) => Err(error),
            None => Ok(known.value),
        }
    }

    /// Returns a token that arrived after this call began. Only one caller at a time calls `ask`, for all that wait.
    ///
    /// # Errors
    /// Those of `ask`.
    pub(super) async fn renewed<F>(&self, ask: impl FnOnce() -> F) -> Result<Arc<Token>, BackendError>
    where
        F: Future<Output = Result<Token, BackendError>>,
    {
        self.tokens.get(|_| false, || self.counted(ask())).await.map(|known| known.value)
    }

    /// Adds a pause to the refusal of a login, so that the operator does not try it again soon.
    async fn counted(
        &self,
        asked: impl Future<Output = Result<Token, BackendError>>,
    ) -> Result<Token, BackendError> {
        let outcome = asked.await;
        let is_refused = outcome.as_ref().is_err_and(|error| error.refuses_login);
        // Other failures do not show whether the login is valid.
        let was_refused = match outcome {
            Ok(_) => self.login_refused.swap(false, Ordering::Relaxed),
            Err(_) if is_refused => self.login_refused.swap(true, Ordering::Relaxed),
            Err(_) => false,
        };
        let pause = if was_refused { LOGIN_PAUSE } else { FIRST_LOGIN_PAUSE };
        outcome.map_err(|error| if is_refused { error.pausing(pause) } else { error })
    }

    /// Reports that the remote side refused this token, and returns whether another one may help. The first of these
    /// calls drops the token if it is the current one.
    pub(super) fn refuse(&self, token: &Arc<Token>) -> bool {
        let mut given_up = self.given_up.lock();
        let current = self.tokens.latest().is_some_and(|known| Arc::ptr_eq(&known.value, token));
        if !current {
            return true;
        }
        if given_up.is_some_and(|last| last.elapsed() < PAUSE_AFTER_REFUSAL) {
            return false;
        }
        self.tokens.forget(token);
        *given_up = Some(Instant::now());
        true
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.tokens.latest().map(|known| known.value.life);
        f.debug_struct("TokenCache").field("life", &life).finish_non_exhaustive()
    }
}

fn lives(known: &CachedAnswer<Token>) -> bool {
    known.since.elapsed() < known.value.life
}

fn is_due(known: &CachedAnswer<Token>) -> bool {
    known.since.elapsed() >= known.value.life * 4 / 5
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::{FutureExt, future::join_all};
    use rstest::rstest;
    use secrecy::ExposeSecret;
    use tokio::time::{advance, sleep};

    use super::*;

    const LIFE: Duration = Duration::from_secs(100);
    const MOMENT: Duration = Duration::from_millis(10);

    /// A server that takes a moment for each request, and numbers its tokens.
    #[derive(Default)]
    struct SlowServer {
        requests: AtomicUsize,
        /// The failures of the next requests; `None` is a success.
        faults: Mutex<VecDeque<Option<BackendError>>>,
    }

    impl SlowServer {
        fn failing(times: usize) -> Self {
            let server = Self::default();
            server.faults.lock().extend(std::iter::repeat_n(Some(down()), times));
            server
        }

        async fn ask(&self) -> Result<Token, BackendError> {
            let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
            let fault = self.faults.lock().pop_front().flatten();
            sleep(MOMENT).await;
            match fault {
                Some(error) => Err(error),
                None => Ok(Token::new(format!("token-{number}").into(), LIFE).unwrap()),
            }
        }

        fn requests(&self) -> usize {
            self.requests.load(Ordering::Relaxed)
        }
    }

    fn down() -> BackendError {
        BackendError::new(ErrorClass::Transient, "down")
    }

    /// The login of a provider, and its token server.
    #[derive(Default)]
    struct CachedLogin {
        cache: TokenCache,
        server: SlowServer,
    }

    impl CachedLogin {
        fn at(server: SlowServer) -> Self {
            Self { server, ..Self::default() }
        }

        async fn current(&self) -> Result<Arc<Token>, BackendError> {
            self.cache.current(|| self.server.ask()).await
        }

        /// The name of the token that a call gets now.
        async fn name(&self) -> String {
            name(&self.current().await.unwrap())
        }

        /// The results of fifty calls that start now.
        async fn fifty(&self) -> Vec<Result<String, String>> {
            let calls = join_all((0..50).map(|_| self.current())).await;
            calls.into_iter().map(|call| call.map(|token| name(&token)).map_err(|e| e.message)).collect()
        }
    }

    fn name(token: &Token) -> String {
        token.secret().expose_secret().to_owned()
    }

    fn all(outcome: Result<&str, &str>) -> Vec<Result<String, String>> {
        vec![outcome.map(str::to_owned).map_err(str::to_owned); 50]
    }

    #[rstest]
    #[case::a_token(SlowServer::default(), Ok("token-1"))]
    #[case::a_failure(SlowServer::failing(1), Err("down"))]
    #[tokio::test(start_paused = true)]
    async fn one_asks_for_all(#[case] server: SlowServer, #[case] expected: Result<&str, &str>) {
        let login = CachedLogin::at(server);
        assert_eq!(login.fifty().await, all(expected));
        assert_eq!(login.server.requests(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_by_one_call_while_the_others_use_the_old_one() {
        let login = CachedLogin::default();
        login.current().await.unwrap();
        advance(LIFE * 4 / 5 - MOMENT).await;
        assert_eq!(login.name().await, "token-1");
        assert_eq!(login.server.requests(), 1, "not due yet");

        advance(MOMENT).await;
        let (renewing, others) = tokio::join!(login.current(), async {
            let at_once = (0..50).map(|_| login.current().now_or_never().expect("it waits").unwrap());
            at_once.map(|token| name(&token)).collect::<Vec<_>>()
        });
        assert_eq!(name(&renewing.unwrap()), "token-2");
        assert_eq!(others, vec!["token-1"; 50]);
        assert_eq!((login.name().await, login.server.requests()), ("token-2".to_owned(), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_is_tried_again_after_a_pause_while_the_old_token_lives() {
        let login = CachedLogin::default();
        login.current().await.unwrap();
        login.server.faults.lock().extend(vec![Some(down()); 2]);
        advance(LIFE * 4 / 5).await;
        assert_eq!(login.name().await, "token-1");
        assert_eq!(login.fifty().await, all(Ok("token-1")));
        assert_eq!(login.server.requests(), 2, "one call tried, and the others left the server alone");

        advance(PAUSE_AFTER_FAILURE + MOMENT).await;
        assert_eq!(login.name().await, "token-1");
        assert_eq!(login.server.requests(), 3, "another one after the pause");

        advance(PAUSE_AFTER_FAILURE + MOMENT).await;
        assert_eq!(login.name().await, "token-4");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_dead_is_not_used() {
        let login = CachedLogin::default();
        login.current().await.unwrap();
        login.server.faults.lock().push_back(Some(down()));
        advance(LIFE).await;
        assert_eq!(login.fifty().await, all(Err("down")));
        advance(PAUSE_AFTER_FAILURE + MOMENT).await;
        assert_eq!(login.fifty().await, all(Ok("token-3")));
        assert_eq!(login.server.requests(), 3);
    }

    /// The old token expires while the renewing call waits for a server that fails.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_dies_during_its_renewal_is_not_used() {
        let login = CachedLogin::default();
        login.current().await.unwrap();
        login.server.faults.lock().push_back(Some(down()));
        advance(LIFE - MOMENT).await;
        assert_eq!(login.current().await.unwrap_err().message, "down");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_while_asking_leaves_the_turn_to_the_next() {
        let login = CachedLogin::default();
        assert!(login.current().now_or_never().is_none());
        assert_eq!(login.name().await, "token-2");
        advance(LIFE * 4 / 5).await;
        assert!(login.current().now_or_never().is_none());
        assert_eq!(login.name().await, "token-4");
    }

    #[rstest]
    #[case::a_pause(None, PAUSE_AFTER_FAILURE)]
    #[case::as_long_as_the_server_wants(Some(30), Duration::from_secs(30))]
    #[case::a_pause_whatever_the_server_says(Some(0), PAUSE_AFTER_FAILURE)]
    #[tokio::test(start_paused = true)]
    async fn a_server_in_trouble_is_left_alone(#[case] retry_after: Option<u64>, #[case] pause: Duration) {
        let login = CachedLogin::default();
        let retry_after = retry_after.map(Duration::from_secs);
        let sorry = BackendError { retry_after, ..down() };
        login.server.faults.lock().push_back(Some(sorry));
        let first = login.current().await.unwrap_err();
        assert_eq!(first.retry_after, retry_after);

        advance(pause).await;
        let kept = login.current().await.unwrap_err();
        assert_eq!((kept.message, login.server.requests()), (first.message, 1));
        assert_eq!(kept.retry_after, retry_after.map(|_| Duration::ZERO), "what is left of it");
        advance(MOMENT).await;
        assert_eq!(login.name().await, "token-2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_replaced_once() {
        let login = CachedLogin::default();
        let refused = login.current().await.unwrap();
        // Fifty calls used it, and the remote side refused each of them.
        assert!((0..50).all(|_| login.cache.refuse(&refused)));
        assert_eq!(login.fifty().await, all(Ok("token-2")));
        // A call that was refused later gets the current token.
        assert!(login.cache.refuse(&refused));
        assert_eq!(login.name().await, "token-2");
        assert_eq!(login.server.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_refuses_every_token_does_not_cost_a_request_each() {
        let login = CachedLogin::default();
        assert!(login.cache.refuse(&login.current().await.unwrap()));
        for _ in 0..50 {
            let second = login.current().await.unwrap();
            assert!(!login.cache.refuse(&second));
        }
        assert_eq!(login.server.requests(), 2);
        advance(PAUSE_AFTER_REFUSAL).await;
        assert!(login.cache.refuse(&login.current().await.unwrap()));
        assert_eq!(login.name().await, "token-3");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_not_used_while_there_is_no_other() {
        let login = CachedLogin::default();
        let refused = login.current().await.unwrap();
        login.server.faults.lock().push_back(Some(down()));
        assert!(login.cache.refuse(&refused));
        assert_eq!(login.fifty().await, all(Err("down")));
        assert_eq!(login.server.requests(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn debug_shows_no_token() {
        let login = CachedLogin::default();
        login.current().await.unwrap();
        assert_eq!(format!("{:?}", login.cache), "TokenCache { life: Some(100s), .. }");
    }

    fn refused() -> BackendError {
        BackendError::new(ErrorClass::Forbidden, "wrong password").of_login()
    }

    /// The operator tries a wrong login three times in the first hour, and twice in each further one.
    #[tokio::test(start_paused = true)]
    async fn a_login_that_is_refused_is_left_alone_for_ever_longer() {
        let login = CachedLogin::default();
        login.server.faults.lock().extend(std::iter::repeat_n(Some(refused()), 1000));
        let mut attempts = Vec::new();
        for minute in 0..130 {
            let before = login.server.requests();
            for outcome in login.fifty().await {
                assert_eq!(outcome.unwrap_err(), "wrong password");
            }
            if login.server.requests() > before {
                attempts.push(minute);
            }
            advance(Duration::from_secs(60)).await;
        }
        assert_eq!(attempts, [0, 3, 34, 65, 96, 127]);
        assert_eq!(login.server.requests(), attempts.len(), "one for all");
    }

    /// A failure of another kind does not show whether the login is valid, and a success shows that it is.
    #[tokio::test(start_paused = true)]
    async fn a_login_that_worked_again_waits_shortly_after_the_next_refusal() {
        let login = CachedLogin::default();
        let pause = async || login.current().await.unwrap_err().retry_after.unwrap();
        let fail = |error| login.server.faults.lock().push_back(error);
        for error in [refused(), down(), refused()] {
            fail(Some(error));
        }
        assert_eq!(pause().await, FIRST_LOGIN_PAUSE);
        advance(FIRST_LOGIN_PAUSE + MOMENT).await;
        login.current().await.unwrap_err();
        advance(PAUSE_AFTER_FAILURE + MOMENT).await;
        assert_eq!(pause().await, LOGIN_PAUSE, "it was not right in between");
        advance(LOGIN_PAUSE + MOMENT).await;
        login.current().await.unwrap();
        advance(LIFE).await;
        fail(Some(refused()));
        assert_eq!(pause().await, FIRST_LOGIN_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_an_earlier_process_was_refused_with_waits_for_its_time() {
        let login =
            CachedLogin { cache: TokenCache::pausing(Duration::from_secs(300)), ..CachedLogin::default() };
        advance(Duration::from_secs(200)).await;
        let error = login.current().await.unwrap_err();
        assert_eq!((error.refuses_login, error.retry_after), (true, Some(Duration::from_secs(100))));
        assert_eq!(login.server.requests(), 0);
        advance(Duration::from_secs(101)).await;
        login.current().await.unwrap();
    }
}
