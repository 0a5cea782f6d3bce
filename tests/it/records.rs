//! A gateway with a store from an older version.

use leadgate::grpc::pb;
use leadgate_simulator::Options;
use pb::activity_service_client::ActivityServiceClient;
use pb::share_service_client::ShareServiceClient;
use pb::{ShareState, WaitFor};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::account::Account;
use crate::harness::{World, channel, lead, seen};
use crate::share::{SAM, SITA};
use crate::store::execute;

/// A store from a version without records. It contains the results of the requests below.
const OLD_STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/records/store.sqlite");

/// The leads in the store, and its active share.
const ASHA: &str = "910a2dec-8902-5cc1-beeb-8da1658eec67";
const BEN: &str = "f893a2ee-fb32-555e-71c1-8690ee42c90b";
const SHARE: &str = "01a219aa-b24c-71b5-8f4c-c03a8ea6e03c";

const SETTINGS: &str = "[tenants.acme.sharing]\ndefault_activity_type = 201\npoll_every = \"20ms\"\n";

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

async fn create(world: &World, number: u128, name: &str) -> Result<String, Status> {
    let request = pb::CreateLeadRequest {
        lead: Some(lead(name)),
        request_id: id(number),
        ..Default::default()
    };
    Ok(world.client.clone().create_lead(request).await?.into_inner().lead_id)
}

async fn post(world: &World, number: u128, lead_id: &str) -> Result<String, Status> {
    let request = pb::PostActivityRequest {
        lead_id: lead_id.to_owned(),
        activity_type: 201,
        note: "Evaluate, please".into(),
        owner_id: SAM.into(),
        request_id: id(number),
        ..Default::default()
    };
    let mut client = ActivityServiceClient::new(channel(world.address).await);
    Ok(client.post_activity(request).await?.into_inner().activity_id)
}

async fn share(world: &World, number: u128, lead_id: &str, user: &str) -> Result<pb::Share, Status> {
    let request = pb::ShareLeadRequest {
        lead: Some(pb::share_lead_request::Lead::LeadId(lead_id.to_owned())),
        user: Some(pb::share_lead_request::User::UserId(user.into())),
        access: pb::Access::Write.into(),
        wait_for: WaitFor::Active.into(),
        request_id: id(number),
        ..Default::default()
    };
    let mut client = ShareServiceClient::new(channel(world.address).await);
    Ok(client.share_lead(request).await?.into_inner().share.unwrap())
}

#[tokio::test]
async fn a_gateway_uses_a_store_of_version_1() {
    let account = Account::open(Options::default(), SETTINGS).await;
    std::fs::copy(OLD_STORE, account.folder.path().join("leadgate.db")).unwrap();
    // Old records would be deleted.
    for statement in [
        "UPDATE request SET begun = unixepoch() * 1000 - 60000",
        "UPDATE share SET changed = unixepoch() * 1000",
    ] {
        execute(&account, statement).await;
    }
    let world = account.gateway().await.warm().await;

    // The shares, newest first.
    let mut shares = ShareServiceClient::new(channel(world.address).await);
    let listed = shares.list_shares(pb::ListSharesRequest::default()).await.unwrap();
    let listed: Vec<_> = listed
        .into_inner()
        .shares
        .into_iter()
        .map(|share| (share.state(), share.user_id, share.lead_id, share.share_id))
        .collect();
    let expected = [
        (ShareState::Expired, SITA, BEN, "01a219aa-b2b5-72c1-881d-5d3854c9595c"),
        (ShareState::Revoked, SITA, ASHA, "01a219aa-b27c-702d-9353-6e4efb79b420"),
        (ShareState::Active, SAM, ASHA, SHARE),
    ];
    let expected = expected.map(|(state, user, lead, id)| (state, user.to_owned(), lead.to_owned(), id.to_owned()));
    assert_eq!(listed, expected);
    let request = pb::GetShareRequest {
        share_id: SHARE.to_owned(),
    };
    let history = shares.get_share(request).await.unwrap().into_inner().changes;
    let states: Vec<_> = history.iter().map(pb::ShareChange::state).collect();
    assert_eq!(states.first(), Some(&ShareState::Pending));
    assert_eq!(states.last(), Some(&ShareState::Active));

    // The stored results of request ids. No upstream call is needed.
    assert_eq!(create(&world, 1, "Asha").await.unwrap(), ASHA);
    let error = seen(create(&world, 2, "Asha").await.unwrap_err());
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    assert_eq!(error.metadata["exception_type"], "MXDuplicateEntryException");
    assert_eq!(error.metadata["field"], "lead.email_address");
    assert_eq!(
        post(&world, 4, ASHA).await.unwrap(),
        "8a6f6324-af2d-4559-7af4-5f4571febd23"
    );
    assert_eq!(share(&world, 5, ASHA, SAM).await.unwrap().share_id, SHARE);
    let error = seen(create(&world, 1, "Ben").await.unwrap_err());
    error.is(Code::InvalidArgument, "INVALID_FIELD");
    let sent: Vec<_> = world.simulator.calls().into_iter().map(|call| call.endpoint).collect();
    assert_eq!(sent, Vec::<String>::new());

    // The outcome of this request is unknown, because the process ended. Its lead exists.
    let ben = world
        .simulator
        .insert_lead(&[("FirstName", "Ben"), ("EmailAddress", "ben@example.com")]);
    assert_eq!(create(&world, 3, "Ben").await.unwrap(), ben);
    assert!(world.calls("Lead.Create").is_empty());
    world.stop().await;
}
