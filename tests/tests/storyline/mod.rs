//! One story from the first passcode to the last revocation, told with what an operator, a maker and two people have
//! at hand: the two programs, curl and openssl, browsers, and a sign-in provider that nobody here wrote.
//!
//! Each step is a function and stands on those before it.

mod by_hand;
mod people;
mod steps;

use std::time::Duration;

use tests::{Cloud, Device, EnrolledDevice, OidcProvider, Service, eventually_within, web};

use self::people::Person;

/// The cloud, its sign-in provider, and what stands behind the devices.
struct Story {
    cloud: Cloud,
    provider: OidcProvider,
    site: Service,
}

#[tokio::test]
async fn from_the_first_passcode_to_the_last_revocation() {
    let mut story = Story::begin().await;
    let maker = story.a_passcode_with_curl_enrols_a_device_by_hand_once().await;
    story.the_device_token_works(&maker).await;
    let mut camera = story.the_daemon_connects_and_shows_a_code().await;
    let mut alice = story.sign_in("alice").await;
    let mut bob = story.sign_in("bob").await;
    story.a_person_claims_and_uses_the_device(&mut alice, &camera).await;
    story.the_owner_shares_and_takes_back(&mut alice, &mut bob).await;
    story.what_the_device_reports_reaches_the_second_person(&mut alice, &mut bob, &camera).await;
    let spare = story.another_device_waits_for_its_owner().await;
    let code = code_on(&spare).await;
    story.another_tenant_gets_nothing(&mut alice, &code).await;
    story.everything_comes_back_after_kill_9(&mut alice, &mut bob, &spare, &code).await;
    story.a_revoked_device_is_out(&mut alice, &mut camera).await;

    let checked = story.cloud.command("audit verify").await;
    assert_eq!(checked.code, 0, "all of it is on record: {checked:?}");
}

impl Story {
    async fn begin() -> Self {
        let provider = OidcProvider::start(&format!("{PUBLIC}/login/idp/callback")).await;
        let config = provider.config().replace("tenant = \"default\"", "tenant_claim = \"org\"");
        let plan = Cloud::plan().config(&format!("public_url = \"{PUBLIC}\"")).config(&config);
        Self { cloud: plan.start().await, provider, site: web().await }
    }

    async fn sign_in(&self, name: &str) -> Person {
        Person::sign_in(&self.cloud, &self.provider, name).await
    }

    async fn another_device_waits_for_its_owner(&self) -> Device {
        let services = [("web", self.site.url("http"))];
        let device = EnrolledDevice::enrol(&self.cloud, "cam-02").await.run(&services);
        self.cloud.until_online("cam-02", true, Duration::from_secs(20)).await;
        device
    }
}

/// The code in the file of a device that has no owner, once it is there.
async fn code_on(device: &Device) -> String {
    let file = device.state().join("claim_code");
    eventually_within(Duration::from_secs(30), "the device shows a code", || {
        std::future::ready(std::fs::read_to_string(&file))
    })
    .await
}

/// Where browsers find the cloud.
const PUBLIC: &str = "https://cloud.example";
