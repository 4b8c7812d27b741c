//! Tokens: what opens the API, and what lets devices in. The store holds sha256 of the secret, never the secret.

use crate::api::types::{Role, TokenCreated, TokenInfo, TokenKind, TokenRequest};
use crate::audit::{Act, Audit};
use crate::fleet::labels::{self, LabelError};
use crate::store::{Store, StoreError, Table, Write, decode, encode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fieldpost_shared::id::Digest;
use fieldpost_shared::time::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const FORM: u8 = 1;
/// Every token starts so, that scanners for leaked secrets can know it.
pub const PREFIX: &str = "fp_";
/// How long an enrolment token opens the door, when nobody says.
const ENROLL_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longest that a token may live: ten years.
const MAX_LIFETIME: Duration = Duration::from_secs(3_650 * 24 * 3600);
/// Most devices that one token lets in.
const MAX_USES: u32 = 1_000_000;
const MAX_NOTE_BYTES: usize = 500;

/// Why a token is not made, or opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No random numbers.
    #[error("cannot get random bytes for a new token")]
    Random(#[source] getrandom::Error),
    /// A label that no device can have.
    #[error("the token's labels cannot be used")]
    Labels(#[source] LabelError),
    /// A number out of range.
    #[error("an enrolment token lets in 1 to {MAX_USES} devices")]
    Uses,
    /// A time out of range.
    #[error("a token lives at most {} days", MAX_LIFETIME.as_secs() / 86_400)]
    Lifetime,
    /// Too long a note.
    #[error("a note has at most {MAX_NOTE_BYTES} bytes")]
    Note,
    /// Nobody knows it.
    #[error("the token is unknown, or is not one for enrolment")]
    Unknown,
    /// Its time is over.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
    /// It has let in as many as it may.
    #[error("the token has let in all {0} devices that it may")]
    UsedUp(u32),
    /// There is none of that name.
    #[error("there is no token `{0}`")]
    NoSuch(String),
    /// The store would not.
    #[error("cannot keep the token")]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TokenRecord {
    hash: Digest,
    info: TokenInfo,
}

/// All tokens.
#[derive(Debug)]
pub struct Tokens {
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<String, TokenRecord>>,
}

/// Compares in a time that does not depend on where two digests differ.
#[must_use]
pub fn same(left: &Digest, right: &Digest) -> bool {
    let difference = left.as_bytes().iter().zip(right.as_bytes()).fold(0_u8, |sum, (l, r)| sum | (l ^ r));
    std::hint::black_box(difference) == 0
}

/// A secret of 32 random bytes, as text.
///
/// # Errors
/// When the machine gives no random numbers.
pub fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

impl Tokens {
    /// Opens the tokens of a store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(store: &dyn Store, audit: Arc<Audit>, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let rows = store.scan(Table::Tokens, b"")?;
        let records = rows.iter().map(|(_, value)| decode::<TokenRecord>(FORM, value).map(|r| (r.info.id.clone(), r)));
        Ok(Self { audit, clock, known: Mutex::new(records.collect::<Result<_, _>>()?) })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, TokenRecord>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a token. The secret is in the answer and nowhere else.
    ///
    /// # Errors
    /// When the request is not one, or the store will not.
    pub fn create(&self, actor: &str, request: TokenRequest) -> Result<TokenCreated, TokenError> {
        let now = self.clock.now();
        if request.note.len() > MAX_NOTE_BYTES {
            return Err(TokenError::Note);
        }
        let mut lifetime = request.expires_s.map(Duration::from_secs);
        if lifetime.is_some_and(|lifetime| lifetime > MAX_LIFETIME) {
            return Err(TokenError::Lifetime);
        }
        if let TokenKind::Enroll { uses, labels } = &request.kind {
            labels::check(labels).map_err(TokenError::Labels)?;
            if !(1..=MAX_USES).contains(uses) {
                return Err(TokenError::Uses);
            }
            lifetime = lifetime.or(Some(ENROLL_LIFETIME));
        }
        let token = secret().map_err(TokenError::Random)?;
        let hash = Digest::of(token.as_bytes());
        let info = TokenInfo {
            id: hash.short(),
            kind: request.kind,
            note: request.note,
            created: now,
            expires: lifetime.map(|lifetime| now.plus(lifetime)),
            used: 0,
        };
        let record = TokenRecord { hash, info: info.clone() };
        let detail = match &info.kind {
            TokenKind::Enroll { uses, .. } => format!("enroll, {uses} uses"),
            TokenKind::Api { role } => format!("api, {role}"),
        };
        let act = Act { actor, action: "token.create", subject: &info.id, detail: &detail };
        let mut known = self.known();
        self.audit.commit(act, vec![row(&record)?])?;
        known.insert(info.id.clone(), record);
        Ok(TokenCreated { token, info })
    }

    /// Everything but the secrets, by age.
    #[must_use]
    pub fn list(&self) -> Vec<TokenInfo> {
        let mut all: Vec<_> = self.known().values().map(|record| record.info.clone()).collect();
        all.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        all
    }

    /// Makes a token open nothing any more.
    ///
    /// # Errors
    /// When there is none of that name, or the store will not.
    pub fn delete(&self, actor: &str, id: &str) -> Result<(), TokenError> {
        let mut known = self.known();
        if !known.contains_key(id) {
            return Err(TokenError::NoSuch(id.chars().take(80).collect()));
        }
        let act = Act { actor, action: "token.delete", subject: id, detail: "" };
        self.audit.commit(act, vec![Write::delete(Table::Tokens, id)])?;
        known.remove(id);
        Ok(())
    }

    /// Who a bearer token is: its id and role.
    #[must_use]
    pub fn role_of(&self, token: &str) -> Option<(String, Role)> {
        let record = find(&self.known(), token)?;
        match record.info.kind {
            TokenKind::Api { role } if open_at(&record.info, self.clock.now()) => Some((record.info.id, role)),
            _ => None,
        }
    }

    /// Uses an enrolment token once: `commit` gets the token and the row that counts the use, and commits it with its
    /// own. When it fails, nothing was used.
    ///
    /// # Errors
    /// When the token opens nothing; and what `commit` says.
    pub fn redeem<T, E: From<TokenError>>(
        &self,
        token: &str,
        commit: impl FnOnce(&TokenInfo, Write) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut known = self.known();
        let mut record = find(&known, token).ok_or(TokenError::Unknown)?;
        let TokenKind::Enroll { uses, .. } = record.info.kind else { return Err(TokenError::Unknown.into()) };
        if let Some(expires) = record.info.expires.filter(|_| !open_at(&record.info, self.clock.now())) {
            return Err(TokenError::Expired(expires).into());
        }
        if record.info.used >= uses {
            return Err(TokenError::UsedUp(uses).into());
        }
        record.info.used = record.info.used.saturating_add(1);
        let counted = row(&record).map_err(TokenError::Store)?;
        let done = commit(&record.info, counted)?;
        known.insert(record.info.id.clone(), record);
        Ok(done)
    }
}

fn find(known: &BTreeMap<String, TokenRecord>, token: &str) -> Option<TokenRecord> {
    let hash = Digest::of(token.as_bytes());
    known.get(&hash.short()).filter(|record| same(&record.hash, &hash)).cloned()
}

fn open_at(info: &TokenInfo, now: Timestamp) -> bool {
    info.expires.is_none_or(|expires| now <= expires)
}

fn row(record: &TokenRecord) -> Result<Write, StoreError> {
    Ok(Write::put(Table::Tokens, record.info.id.clone(), encode(FORM, record)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;
    use fieldpost_shared::time::ManualClock;

    struct Fixture {
        store: Arc<MemoryStore>,
        clock: Arc<ManualClock>,
        tokens: Tokens,
    }

    fn fixture() -> Fixture {
        let store = Arc::new(MemoryStore::default());
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let audit = Arc::new(Audit::open(store.clone(), clock.clone()).unwrap());
        let tokens = Tokens::open(store.as_ref(), audit, clock.clone()).unwrap();
        Fixture { store, clock, tokens }
    }

    fn request(kind: TokenKind, expires_s: Option<u64>) -> TokenRequest {
        TokenRequest { kind, note: String::new(), expires_s }
    }

    fn enroll(uses: u32) -> TokenKind {
        TokenKind::Enroll { uses, labels: BTreeMap::new() }
    }

    fn redeem(tokens: &Tokens, token: &str) -> Result<u32, TokenError> {
        tokens.redeem(token, |info, _| Ok::<_, TokenError>(info.used))
    }

    #[test]
    fn a_token_opens_the_api_as_its_role_until_it_expires() {
        let Fixture { tokens, clock, .. } = fixture();
        let made = tokens.create("x", request(TokenKind::Api { role: Role::Operator }, Some(60))).unwrap();
        assert_eq!(tokens.role_of(&made.token), Some((made.info.id, Role::Operator)));
        assert_eq!(tokens.role_of("fp_wrong"), None);
        clock.advance(Duration::from_secs(61));
        assert_eq!(tokens.role_of(&made.token), None);
    }

    #[test]
    fn a_token_for_longer_than_ten_years_is_refused() {
        let Fixture { tokens, .. } = fixture();
        let longest = MAX_LIFETIME.as_secs();
        assert!(tokens.create("x", request(enroll(1), Some(longest))).is_ok());
        for expires_s in [longest + 1, 3_000_000 * 86_400, u64::MAX] {
            let refused = tokens.create("x", request(enroll(1), Some(expires_s)));
            assert!(matches!(refused, Err(TokenError::Lifetime)), "{expires_s}");
        }
    }

    #[test]
    fn the_secret_is_not_in_the_store() {
        let Fixture { tokens, store, .. } = fixture();
        let made = tokens.create("x", request(TokenKind::Api { role: Role::Admin }, None)).unwrap();
        for table in Table::ALL {
            for (key, value) in store.scan(table, b"").unwrap() {
                let text = format!("{}{}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
                assert!(!text.contains(&made.token[PREFIX.len()..]), "{table:?}");
            }
        }
    }

    #[test]
    fn an_enrolment_token_lets_in_as_many_as_it_says() {
        let Fixture { tokens, .. } = fixture();
        let made = tokens.create("x", request(enroll(2), None)).unwrap();
        assert_eq!((redeem(&tokens, &made.token).unwrap(), redeem(&tokens, &made.token).unwrap()), (1, 2));
        assert!(matches!(redeem(&tokens, &made.token), Err(TokenError::UsedUp(2))));
    }

    #[test]
    fn a_use_that_was_not_committed_does_not_count() {
        let Fixture { tokens, .. } = fixture();
        let made = tokens.create("x", request(enroll(1), None)).unwrap();
        let failed: Result<(), _> = tokens.redeem(&made.token, |_, _| Err(TokenError::Note));
        assert!(failed.is_err());
        assert_eq!(redeem(&tokens, &made.token).unwrap(), 1);
    }

    #[test]
    fn an_enrolment_token_expires_after_a_day_when_nobody_says() {
        let Fixture { tokens, clock, .. } = fixture();
        let made = tokens.create("x", request(enroll(1), None)).unwrap();
        clock.advance(ENROLL_LIFETIME + Duration::from_secs(1));
        assert!(matches!(redeem(&tokens, &made.token), Err(TokenError::Expired(_))));
    }

    #[test]
    fn tokens_of_one_kind_do_not_open_the_other() {
        let Fixture { tokens, .. } = fixture();
        let enrolment = tokens.create("x", request(enroll(1), None)).unwrap();
        let api = tokens.create("x", request(TokenKind::Api { role: Role::Admin }, None)).unwrap();
        assert_eq!(tokens.role_of(&enrolment.token), None);
        assert!(matches!(redeem(&tokens, &api.token), Err(TokenError::Unknown)));
    }

    #[test]
    fn a_deleted_token_opens_nothing() {
        let Fixture { tokens, .. } = fixture();
        let made = tokens.create("x", request(TokenKind::Api { role: Role::Admin }, None)).unwrap();
        tokens.delete("x", &made.info.id).unwrap();
        assert_eq!(tokens.role_of(&made.token), None);
        assert!(matches!(tokens.delete("x", &made.info.id), Err(TokenError::NoSuch(_))));
    }

    #[test]
    fn digests_are_compared_whole() {
        let mut other = *Digest::of(b"a").as_bytes();
        assert!(same(&Digest::of(b"a"), &Digest::from_bytes(other)));
        other[31] ^= 1;
        assert!(!same(&Digest::of(b"a"), &Digest::from_bytes(other)));
    }
}
