//! People as this cloud knows them: one user per tenant, issuer and subject, made at the first call.

use model::{DoorKey, Refusal, Timestamp, UserActor, UserId};
use runtime::Clock;
use store::{Store, StoreError};

use crate::oidc::{Person, Providers, no_tenant};

/// From a provider's token to a proven user. Nothing is remembered from one call to the next: a user ends with
/// their tenant, and the next tenant of that name has other users.
#[derive(Debug)]
pub(crate) struct Users {
    providers: Providers,
    store: Store,
    clock: Clock,
    door_key: DoorKey,
}

impl Users {
    pub(crate) fn new(providers: Providers, store: Store, clock: Clock, door_key: DoorKey) -> Self {
        Self { providers, store, clock, door_key }
    }

    /// The user of a bearer token.
    pub(crate) async fn prove(&self, token: &str) -> Result<UserActor, Refusal> {
        self.prove_with_end(token).await.map(|(user, _)| user)
    }

    /// The user of a bearer token, and when that token ends.
    pub(crate) async fn prove_with_end(&self, token: &str) -> Result<(UserActor, Timestamp), Refusal> {
        let (person, expires_at) = self.providers.identify(token).await?;
        Ok((self.of_person(person).await?, expires_at))
    }

    /// The providers that are believed.
    pub(crate) fn providers(&self) -> &Providers {
        &self.providers
    }

    /// The user that a provider has vouched for.
    pub(crate) async fn of_person(&self, person: Person) -> Result<UserActor, Refusal> {
        let user = self.find_or_create(&person).await?;
        let Person { tenant, issuer, subject, email } = person;
        Ok(UserActor::new(&self.door_key, user, tenant, issuer, subject, email))
    }

    async fn find_or_create(&self, person: &Person) -> Result<UserId, Refusal> {
        let Person { tenant, issuer, subject, email } = person;
        let fresh = UserId::from_random(runtime::random::bytes());
        let found = self.store.find_or_create_user(
            tenant,
            issuer,
            subject,
            email.as_deref(),
            fresh,
            self.clock.now(),
        );
        match found.await {
            Ok(user) => Ok(user.id),
            Err(StoreError::NotFound(_)) => Err(no_tenant("the token's tenant is not served here")),
            Err(error) => Err(error.refusal("finding the user")),
        }
    }
}
