//! One order: from the account to the certificate.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, ChallengeType, Error,
    ExternalAccountKey, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::timeout;

use super::client::{Http, RetryAfter, why};
use super::store;
use crate::config::AcmeChallenge;
use crate::engine::{Handle, ShowChallenge};
use crate::model::{Name, Proof, Token, Unix};
use crate::net::certificates::Certified;
use crate::net::clock::Clock;
use crate::prepare::{self, Acme};

/// Time of an order. Authorities take a minute at most; challenges are shown no longer.
const ORDER_WITHIN: Duration = Duration::from_secs(600);
/// Time for each of the two parts of an order that the server works on alone.
const WORK_WITHIN: Duration = Duration::from_secs(240);
/// How an order is asked for while the server works on it, unless that says otherwise.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(WORK_WITHIN);

/// Why no certificate was obtained.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// As a clause.
    pub(super) why: String,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// A certificate that was obtained.
pub(super) struct Obtained {
    /// Its key and its chain.
    pub(super) pem: String,
    pub(super) certified: Certified,
}

/// Orders a certificate. `replaces` is the one before, if the server is to know.
pub(super) async fn obtain(
    acme: &Acme,
    engine: &Handle,
    replaces: Option<&Certified>,
) -> Result<Obtained, Failure> {
    let retry_after = RetryAfter::default();
    let mut attempt = Attempt { acme, engine, retry_after: Arc::clone(&retry_after), shown: Vec::new() };
    let obtained = match timeout(ORDER_WITHIN, attempt.run(replaces)).await {
        Ok(obtained) => obtained,
        Err(_) => Err(format!("the order took longer than {} s", ORDER_WITHIN.as_secs())),
    };
    for proof in attempt.shown {
        // It would expire anyway.
        engine.hide_challenge(proof).await.ok();
    }
    let retry_after = retry_after.lock().unwrap_or_else(PoisonError::into_inner).take();
    obtained.map_err(|why| Failure { why, retry_after })
}

/// When the authority suggests to renew a certificate (RFC 9773), and after which time to ask again.
///
/// # Errors
/// Why there is no suggestion.
pub(super) async fn suggested(acme: &Acme, current: &Certified) -> Result<((Unix, Unix), Duration), String> {
    let account = known_account(acme, &RetryAfter::default()).await?.ok_or("this node has no account yet")?;
    let id = identifier(current).ok_or("the certificate does not say which key its authority used")?;
    let (info, again) = account.renewal_info(&id).await.map_err(|error| why(&error))?;
    let unix = |at: i64| Unix(Duration::from_secs(at.try_into().unwrap_or(0)));
    let window = info.suggested_window;
    // RFC 9773 §4.2: "clients MUST treat one as though they failed to receive any response from the server".
    if window.end <= window.start {
        return Err("its window ends before it begins".into());
    }
    Ok(((unix(window.start.unix_timestamp()), unix(window.end.unix_timestamp())), again))
}

/// Whether it does no harm, or no good, to order without a word about the certificate before: the server knows no
/// replacements, or it has already been replaced by one that this node lost.
fn is_moot(error: &Error) -> bool {
    match error {
        Error::Unsupported(_) => true,
        Error::Api(problem) => {
            problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:alreadyReplaced")
        }
        _ => false,
    }
}

fn identifier(certified: &Certified) -> Option<CertificateIdentifier<'static>> {
    let first = certified.key.cert.first()?;
    CertificateIdentifier::try_from(first).ok().map(CertificateIdentifier::into_owned)
}

struct Attempt<'a> {
    acme: &'a Acme,
    engine: &'a Handle,
    retry_after: RetryAfter,
    /// To be hidden at the end.
    shown: Vec<Proof>,
}

impl Attempt<'_> {
    async fn run(&mut self, replaces: Option<&Certified>) -> Result<Obtained, String> {
        let settings = &self.acme.settings;
        let account = self.account().await?;
        let identifiers: Vec<_> = settings.names.iter().map(|name| Identifier::Dns(name.clone())).collect();
        let mut order = match replaces.and_then(identifier) {
            Some(id) => match account.new_order(&NewOrder::new(&identifiers).replaces(id)).await {
                Err(error) if is_moot(&error) => account.new_order(&NewOrder::new(&identifiers)).await,
                ordered => ordered,
            },
            None => account.new_order(&NewOrder::new(&identifiers)).await,
        }
        .map_err(|error| self.refused(&error))?;
        self.prove(&mut order).await?;
        let status = order.poll_ready(&POLLING).await.map_err(|error| why(&error))?;
        if status != OrderStatus::Ready {
            return Err(invalid(&mut order).await);
        }
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut request =
            CertificateParams::new(settings.names.clone()).map_err(|error| error.to_string())?;
        request.distinguished_name = DistinguishedName::new();
        let request = request.serialize_request(&key).map_err(|error| error.to_string())?;
        order.finalize_csr(request.der()).await.map_err(|error| why(&error))?;
        let chain = order.poll_certificate(&POLLING).await.map_err(|error| why(&error))?;
        check(format!("{}{chain}", key.serialize_pem()), &settings.names, Clock::unix())
    }

    /// The account of an earlier order, or a new one. Its key is on the disk before it is used.
    async fn account(&self) -> Result<Account, String> {
        if let Some(account) = known_account(self.acme, &self.retry_after).await? {
            return Ok(account);
        }
        let settings = &self.acme.settings;
        let contact: Vec<&str> = settings.contact.as_deref().into_iter().collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = settings.external_account.as_ref().zip(self.acme.external_key.as_ref());
        let external = external.map(|(account, key)| ExternalAccountKey::new(account.kid.clone(), key));
        let builder = Account::builder_with_http(Box::new(http(self.acme, &self.retry_after)?));
        let created = builder.create(&new, settings.directory.clone(), external.as_ref()).await;
        let (account, credentials) = created.map_err(|error| {
            let why = why(&error);
            match (&error, &settings.external_account) {
                (Error::Api(_), Some(external)) => {
                    format!("no account bound to the external account `{}`: {why}", external.kid)
                }
                _ => format!("no account: {why}"),
            }
        })?;
        let json = serde_json::to_string(&credentials).map_err(|error| error.to_string())?;
        let file = &self.acme.account;
        store::save(file.clone(), json)
            .await
            .map_err(|error| format!("the account cannot be kept in {}: {error}", file.display()))?;
        Ok(account)
    }

    /// An account that the server does not know any more is forgotten, so that the next attempt makes one.
    fn refused(&self, error: &Error) -> String {
        if let Error::Api(problem) = error
            && problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:accountDoesNotExist")
        {
            fs::remove_file(&self.acme.account).ok();
        }
        why(error)
    }

    /// Shows the challenges that the server asks for, and tells it.
    async fn prove(&mut self, order: &mut Order) -> Result<(), String> {
        let settings = &self.acme.settings;
        let kind = match settings.challenge {
            AcmeChallenge::Http => ChallengeType::Http01,
            AcmeChallenge::Dns => ChallengeType::Dns01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| why(&error))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            // Nothing is shown for names that nobody configured.
            if !settings.names.contains(&name.to_ascii_lowercase()) {
                return Err("the server asks for a proof of another name".into());
            }
            let Some(mut challenge) = authorization.challenge(kind.clone()) else {
                return Err(format!("the server offers another kind of challenge for {name}"));
            };
            let token = Token::parse(&challenge.token).ok_or("the server's token is not base64url")?;
            let answer = challenge.key_authorization();
            let proof = match settings.challenge {
                AcmeChallenge::Http => Proof::Http { token, body: answer.as_str().to_owned() },
                AcmeChallenge::Dns => {
                    let value = Token::parse(&answer.dns_value()).ok_or("the digest is not base64url")?;
                    let name: Name = name.parse().map_err(|_| "the server's name is not valid")?;
                    Proof::dns(&name, value).ok_or("the name is too long")?
                }
            };
            let request = ShowChallenge { proof: proof.clone(), by: "acme".into(), lasts: ORDER_WITHIN };
            self.shown.push(proof);
            let shown = self.engine.show_challenge(request).await.map_err(|error| error.to_string())?;
            shown.map_err(|refused| refused.to_string())?;
            challenge
                .set_ready()
                .await
                .map_err(|error| format!("{}: {}", challenge.identifier(), why(&error)))?;
        }
        Ok(())
    }
}

fn http(acme: &Acme, retry_after: &RetryAfter) -> Result<Http, String> {
    Http::new(&acme.client, acme.resolver.clone(), Arc::clone(retry_after)).map_err(|error| error.to_string())
}

/// The account that is kept, if there is one.
async fn known_account(acme: &Acme, retry_after: &RetryAfter) -> Result<Option<Account>, String> {
    let file: &Path = &acme.account;
    let shown = file.display();
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("the account in {shown} cannot be read: {error}")),
    };
    let credentials = serde_json::from_slice(&text)
        .map_err(|_| format!("{shown} is not an account: remove it, and a new one is made"))?;
    let builder = Account::builder_with_http(Box::new(http(acme, retry_after)?));
    builder.from_credentials(credentials).await.map(Some).map_err(|error| why(&error))
}

/// What the server says about the challenge that failed.
async fn invalid(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            continue;
        }
        let name = authorization.identifier().to_string();
        let failed = authorization.challenges.iter().find(|it| it.status == ChallengeStatus::Invalid);
        if let Some(problem) = failed.and_then(|it| it.error.clone()) {
            return format!("{name}: {}", why(&Error::Api(problem)));
        }
    }
    "the server found the order invalid".into()
}

/// Takes nothing that clients would refuse.
fn check(pem: String, names: &[String], now: Unix) -> Result<Obtained, String> {
    let certified = prepare::parse_certificate(pem.as_bytes())
        .map_err(|why| format!("the certificate from the server cannot be used: {why}"))?;
    if let Some(missing) = names.iter().find(|name| !certified.names.contains(name)) {
        return Err(format!("the certificate from the server is not for {missing}"));
    }
    if certified.not_after <= now {
        return Err("the certificate from the server has expired; is this node's clock right?".into());
    }
    Ok(Obtained { pem, certified })
}
