//! The attributes that a caller may not write (`deny_fields`) or see (`hide_fields`), in every RPC.

use std::cell::Cell;
use std::collections::BTreeSet;

use bytes::{Buf, BufMut};
use leadgate::grpc::{is_mutation, pb};
use leadgate::identity::api_key::{KeyHash, generate};
use leadgate_simulator::{FaultKind, FieldSpec, Options};
use pb::get_lead_request::Key;
use pb::lead_service_client::LeadServiceClient;
use prost::Message;
use serde_json::Value as Json;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::audit;
use crate::harness::{Seen, World, by_id, channel, custom, lone_read, seen, text};
use crate::share::{SAM, SITA};

/// The attributes that the callers `writer` may not write.
const DENIED: [&str; 4] = ["OwnerId", "notes", "MX_SECRET", "mx_Custom_1"];
/// The attributes that the caller `reader` does not see.
const HIDDEN: [&str; 6] = [
    "ownerid",
    "ProspectStage",
    "mx_Secret",
    "Mobile",
    "ProspectAutoId",
    "mx_Custom_1",
];
/// Parts of the values and of the names of the hidden attributes. No response to `reader` has one.
const CANARIES: [&str; 6] = ["canary", SITA, "9000000999", "mx_Secret", "ProspectStage", "OwnerId"];

/// A gateway with callers, a lead, and an activity of it.
struct Callers {
    world: World,
    keys: Vec<(String, String)>,
    lead: String,
    activity: String,
    folder: tempfile::TempDir,
    /// The number of lines of the audit that were read.
    audited: Cell<usize>,
}

type Client = LeadServiceClient<InterceptedService<Channel, WithKey>>;

/// Adds the key of a caller to each request.
#[derive(Clone)]
struct WithKey(String);

impl tonic::service::Interceptor for WithKey {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        Ok(with_key(request, &self.0))
    }
}

fn with_key<M>(mut request: Request<M>, key: &str) -> Request<M> {
    let value = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

impl Callers {
    /// Callers `admin`, `writer` and `reader`.
    async fn start() -> Self {
        let none: &[&str] = &[];
        Self::with(&[
            ("admin", none, none),
            ("writer", &DENIED, none),
            ("reader", none, &HIDDEN),
        ])
        .await
    }

    /// Callers with their names, `deny_fields` and `hide_fields`.
    async fn with(callers: &[(&str, &[&str], &[&str])]) -> Self {
        let mut options = Options::default();
        options.fields.push(FieldSpec {
            schema_name: "mx_Secret".into(),
            display_name: "Secret".into(),
            data_type: "Text".into(),
            render_type: "Textbox".into(),
            ..FieldSpec::default()
        });
        (options.limits.calls, options.limits.bulk) = (0, 0);
        options.delete_enabled = true;
        let mut settings = "[auth]\nmode = \"callers\"\n[tenants.acme.limits]\ncalls = 10000\nbulk = 10000\n\
            [tenants.acme.sharing]\ndefault_activity_type = 201\npoll_every = \"20ms\"\n\
            poll_at_most = \"40ms\"\nsettle_after = \"50ms\"\n"
            .to_owned();
        let folder = tempfile::tempdir().unwrap();
        let audit_file = folder.path().join("audit.jsonl");
        settings += &format!("[audit]\nfile = \"{}\"\n", audit_file.display());
        let mut keys = vec![];
        for (name, denied, hidden) in callers {
            let key = generate(name);
            settings += &format!(
                "[callers.{name}]\napi_keys = [\"{}\"]\ntenants = [\"*\"]\nallow = [\"*\"]\ndeny_fields = {denied:?}\nhide_fields = {hidden:?}\n",
                KeyHash::of(&key)
            );
            keys.push(((*name).to_owned(), key));
        }
        let world = World::with(options, &settings).await;
        let lead = world.simulator.insert_lead(&[
            ("FirstName", "Ann"),
            ("EmailAddress", "ann@example.com"),
            ("OwnerId", SITA),
            ("ProspectStage", "canary-stage"),
            ("mx_Secret", "canary-secret"),
            ("Mobile", "+91-9000000999"),
        ]);
        let simulator = &world.simulator;
        let activity = simulator.insert_activity(&lead, 201, &[("Owner", SAM), ("mx_Custom_1", "canary-field")]);
        // LeadSquared's own activity of a change of the stage.
        simulator.insert_activity(&lead, 3002, &[("ActivityEvent_Note", "canary-change")]);
        let this = Self {
            world,
            keys,
            lead,
            activity,
            folder,
            audited: Cell::new(0),
        };
        let mut admin = this.client("admin").await;
        admin.describe_lead_fields(describe(&[])).await.unwrap();
        this.world.simulator.forget_calls();
        this
    }

    /// The lines of the audit since the last call.
    fn new_lines(&self) -> Vec<Json> {
        let mut lines = audit::lines(&self.folder.path().join("audit.jsonl"));
        let all = lines.len();
        lines.drain(..self.audited.replace(all));
        lines
    }

    fn key(&self, caller: &str) -> &str {
        let found = self.keys.iter().find(|(name, _)| name == caller);
        &found.unwrap().1
    }

    async fn client(&self, caller: &str) -> Client {
        let key = WithKey(self.key(caller).to_owned());
        LeadServiceClient::with_interceptor(channel(self.world.address).await, key)
    }

    /// Calls any RPC. Returns the bytes of all responses, or of the first one of an RPC that watches.
    async fn call(&self, caller: &str, method: &str, messages: Vec<Vec<u8>>) -> Result<Vec<u8>, Status> {
        let mut grpc = tonic::client::Grpc::new(channel(self.world.address).await);
        grpc.ready().await.unwrap();
        let request = with_key(Request::new(tokio_stream::iter(messages)), self.key(caller));
        let path = http::uri::PathAndQuery::try_from(format!("/leadgate.v1.{method}")).unwrap();
        let mut responses = grpc.streaming(request, path, RawCodec).await?.into_inner();
        let mut all = vec![];
        while let Some(response) = responses.message().await? {
            all.extend(response);
            if method.contains("/Watch") {
                break;
            }
        }
        Ok(all)
    }

    async fn admin<M: Message + Default>(&self, method: &str, message: &impl Message) -> M {
        let response = self.call("admin", method, vec![message.encode_to_vec()]).await.unwrap();
        M::decode(response.as_slice()).unwrap()
    }

    /// Shares the lead through a new activity with a field that `writer` may not write.
    fn share_request(&self, activity_type: i32) -> pb::ShareLeadRequest {
        use pb::share_lead_request::{Context, Lead, User};
        pb::ShareLeadRequest {
            lead: Some(Lead::LeadId(self.lead.clone())),
            user: Some(User::UserId(SAM.into())),
            access: pb::Access::Read.into(),
            wait_for: pb::WaitFor::Active.into(),
            allow_additional: true,
            context: Some(Context::NewActivity(pb::NewActivity {
                activity_type,
                fields: custom(&[("mx_Custom_1", text("x"))]),
                ..Default::default()
            })),
            ..Default::default()
        }
    }
}

/// Messages as bytes.
#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn assert_clean(response: &[u8], at: &str) {
    for canary in CANARIES {
        assert!(
            !contains(response, canary),
            "{at}: {canary} in {}",
            String::from_utf8_lossy(response)
        );
    }
}

/// What an RPC does with an attribute that the caller may not use.
enum Expected {
    /// It fails with these fields, and nothing is sent.
    Denied(&'static [&'static str]),
    /// The item with the attribute fails with these fields. Other items are executed.
    DeniedItem(&'static [&'static str]),
    /// The response has no value and no name of a hidden attribute.
    Clean,
    /// Neither request nor response has attributes of leads.
    NotConcerned,
}
use Expected::{Clean, Denied, DeniedItem, NotConcerned};

fn email(name: &str) -> pb::LeadFields {
    pb::LeadFields {
        email_address: Some(format!("{name}@example.com")),
        ..Default::default()
    }
}

/// A lead with three attributes that `writer` may not write.
fn denied_lead(name: &str) -> pb::LeadFields {
    pb::LeadFields {
        owner_id: Some(SAM.into()),
        notes: Some("x".into()),
        custom: custom(&[("mx_SECRET", text("x"))]),
        ..email(name)
    }
}

const DENIED_LEAD: &[&str] = &["lead.owner_id", "lead.notes", "lead.custom[\"mx_SECRET\"]"];

const DENIED_UPDATE: &[&str] = &[
    DENIED_LEAD[0],
    DENIED_LEAD[1],
    DENIED_LEAD[2],
    "clear_fields[1]",
    "clear_fields[2]",
];

fn create(lead: pb::LeadFields) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        lead: Some(lead),
        ..Default::default()
    }
}

fn update(lead_id: &str, lead: pb::LeadFields) -> pb::UpdateLeadRequest {
    pb::UpdateLeadRequest {
        lead_id: lead_id.to_owned(),
        lead: Some(lead),
        ..Default::default()
    }
}

fn upsert(lead: pb::LeadFields, match_by: &str) -> pb::UpsertLeadRequest {
    pb::UpsertLeadRequest {
        lead: Some(lead),
        match_by: match_by.to_owned(),
        ..Default::default()
    }
}

/// An upsert that matches by an attribute that `reader` does not see.
fn upsert_by_secret() -> pb::UpsertLeadRequest {
    let lead = pb::LeadFields {
        custom: custom(&[("mx_Secret", text("canary-secret"))]),
        ..email("upsert")
    };
    upsert(lead, "mx_Secret")
}

fn rows(operations: Vec<pb::import_leads_request::Operation>) -> Vec<Vec<u8>> {
    let row = |operation| pb::ImportLeadsRequest {
        sequence: 0,
        operation: Some(operation),
    };
    operations
        .into_iter()
        .map(|operation| row(operation).encode_to_vec())
        .collect()
}

/// A range of time with all leads and activities.
fn time_range() -> (Option<prost_types::Timestamp>, Option<prost_types::Timestamp>) {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    (time(946_684_800), time(4_102_444_800))
}

type Case = (&'static str, Vec<Vec<u8>>, Expected);

/// The cases of `writer`.
async fn denied_cases(callers: &Callers) -> Vec<Case> {
    use pb::import_leads_request::Operation;
    let (lead, simulator) = (&callers.lead, &callers.world.simulator);
    let case = |method, message: &dyn Fn() -> Vec<u8>, expected| (method, vec![message()], expected);
    let other = || simulator.insert_lead(&[("FirstName", "Other")]);
    let shared: pb::ShareLeadResponse = callers
        .admin("ShareService/ShareLead", &callers.share_request(201))
        .await;
    let share_id = shared.share.unwrap().share_id;
    // The share fails before its activity is posted.
    let failed = callers.share_request(999).encode_to_vec();
    let failed = callers.call("admin", "ShareService/ShareLead", vec![failed]).await;
    let failed_id = seen(failed.unwrap_err()).metadata["share_id"].clone();
    let activity = |fields| pb::UpdateActivityRequest {
        activity_id: callers.activity.clone(),
        activity_type: 201,
        fields,
        ..Default::default()
    };
    let fields = || custom(&[("mx_CUSTOM_1", text("x")), ("OwnerId", pb::FieldValue::default())]);
    let (start_time, end_time) = time_range();
    let mut cases = vec![
        case(
            "LeadService/CreateLead",
            &|| create(denied_lead("a")).encode_to_vec(),
            Denied(DENIED_LEAD),
        ),
        case(
            "LeadService/UpdateLead",
            // Setting and clearing the same attribute is invalid, but the permission is checked first.
            &|| {
                let clear_fields = ["company", "notes", "Mx_Secret"].map(str::to_owned).into();
                let message = update(lead, denied_lead("ann"));
                pb::UpdateLeadRequest {
                    clear_fields,
                    ..message
                }
                .encode_to_vec()
            },
            Denied(DENIED_UPDATE),
        ),
        case(
            "LeadService/UpsertLead",
            &|| upsert(denied_lead("a"), "mx_Secret").encode_to_vec(),
            Denied(DENIED_LEAD),
        ),
        case(
            "LeadService/CaptureLead",
            &|| {
                let lead = Some(denied_lead("a"));
                pb::CaptureLeadRequest {
                    lead,
                    ..Default::default()
                }
                .encode_to_vec()
            },
            Denied(DENIED_LEAD),
        ),
        case(
            "LeadService/BatchCreateLeads",
            &|| {
                let requests = vec![create(denied_lead("b")), create(email("executed-create"))];
                pb::BatchCreateLeadsRequest {
                    requests,
                    ..Default::default()
                }
                .encode_to_vec()
            },
            DeniedItem(DENIED_LEAD),
        ),
        case(
            "LeadService/BatchUpdateLeads",
            &|| {
                let requests = vec![
                    update(lead, denied_lead("b")),
                    update(&other(), email("executed-update")),
                ];
                pb::BatchUpdateLeadsRequest {
                    requests,
                    ..Default::default()
                }
                .encode_to_vec()
            },
            DeniedItem(DENIED_LEAD),
        ),
        case(
            "LeadService/BatchUpsertLeads",
            &|| {
                let requests = vec![upsert(denied_lead("b"), ""), upsert(email("executed-upsert"), "")];
                pb::BatchUpsertLeadsRequest {
                    requests,
                    ..Default::default()
                }
                .encode_to_vec()
            },
            DeniedItem(DENIED_LEAD),
        ),
        (
            "LeadService/ImportLeads",
            rows(vec![
                Operation::Update(update(lead, denied_lead("b"))),
                Operation::Create(create(email("executed-import"))),
            ]),
            DeniedItem(DENIED_LEAD),
        ),
        case(
            "LeadService/MergeLeads",
            &|| {
                let message = pb::MergeLeadsRequest {
                    lead_id: lead.clone(),
                    merged_lead_id: other(),
                    ..Default::default()
                };
                message.encode_to_vec()
            },
            Denied(&["merged_lead_id"]),
        ),
        case(
            "LeadService/DeleteLead",
            &|| {
                let lead_id = other();
                pb::DeleteLeadRequest {
                    lead_id,
                    ..Default::default()
                }
                .encode_to_vec()
            },
            NotConcerned,
        ),
        case(
            "ActivityService/PostActivity",
            &|| {
                let message = pb::PostActivityRequest {
                    lead_id: lead.clone(),
                    activity_type: 201,
                    fields: fields(),
                    ..Default::default()
                };
                message.encode_to_vec()
            },
            Denied(&["fields[\"mx_CUSTOM_1\"]", "fields[\"OwnerId\"]"]),
        ),
        case(
            "ActivityService/UpdateActivity",
            &|| activity(fields()).encode_to_vec(),
            Denied(&["fields[\"mx_CUSTOM_1\"]", "fields[\"OwnerId\"]"]),
        ),
        // The owner of an activity is not the owner of the lead.
        case(
            "ActivityService/UpdateActivity",
            &|| {
                let owner_id = SAM.to_owned();
                pb::UpdateActivityRequest {
                    owner_id,
                    ..activity(Default::default())
                }
                .encode_to_vec()
            },
            NotConcerned,
        ),
        case(
            "ShareService/ShareLead",
            &|| callers.share_request(201).encode_to_vec(),
            Denied(&["new_activity.fields[\"mx_Custom_1\"]"]),
        ),
        case(
            "ShareService/ExtendShare",
            &|| {
                let share_id = share_id.clone();
                pb::ExtendShareRequest {
                    share_id,
                    ..Default::default()
                }
                .encode_to_vec()
            },
            Denied(&["share_id"]),
        ),
        case(
            "ShareService/RetryShare",
            &|| {
                let share_id = failed_id.clone();
                pb::RetryShareRequest {
                    share_id,
                    ..Default::default()
                }
                .encode_to_vec()
            },
            Denied(&["share_id"]),
        ),
    ];
    // These write no attribute.
    let modified = pb::ListModifiedLeadsRequest {
        start_time,
        end_time,
        ..Default::default()
    };
    let unconcerned: Vec<(&'static str, Vec<u8>)> = vec![
        ("LeadService/GetLead", get(by_id(lead), &[]).encode_to_vec()),
        ("LeadService/BatchGetLeads", lone_read(lead).encode_to_vec()),
        ("LeadService/SearchLeads", search("notes", "").encode_to_vec()),
        ("LeadService/QuickSearchLeads", quick_search().encode_to_vec()),
        ("LeadService/ListModifiedLeads", modified.encode_to_vec()),
        ("LeadService/ExportLeads", export().encode_to_vec()),
        ("LeadService/DescribeLeadFields", describe(&["notes"]).encode_to_vec()),
    ];
    cases.extend(
        unconcerned
            .into_iter()
            .map(|(method, message)| (method, vec![message], NotConcerned)),
    );
    cases.extend(cases_without_attributes(callers, &share_id));
    cases
}

/// The cases of `reader`.
async fn hidden_cases(callers: &Callers) -> Vec<Case> {
    use pb::import_leads_request::Operation;
    let (lead, simulator) = (&callers.lead, &callers.world.simulator);
    let case = |method, message: Vec<u8>, expected| (method, vec![message], expected);
    let other = || simulator.insert_lead(&[("FirstName", "Other")]);
    let shared: pb::ShareLeadResponse = callers
        .admin("ShareService/ShareLead", &callers.share_request(201))
        .await;
    let share_id = shared.share.unwrap().share_id;
    let failed = callers.share_request(999).encode_to_vec();
    let failed = callers.call("admin", "ShareService/ShareLead", vec![failed]).await;
    let failed_id = seen(failed.unwrap_err()).metadata["share_id"].clone();
    let (start_time, end_time) = time_range();
    let capture = pb::CaptureLeadRequest {
        lead: Some(pb::LeadFields {
            mobile: Some("+91-9000000999".into()),
            ..email("capture")
        }),
        ..Default::default()
    };
    let batch_creates = pb::BatchCreateLeadsRequest {
        requests: vec![create(email("hidden-batch"))],
        ..Default::default()
    };
    let batch_updates = pb::BatchUpdateLeadsRequest {
        requests: vec![update(lead, email("ann"))],
        ..Default::default()
    };
    let batch_upserts = pb::BatchUpsertLeadsRequest {
        requests: vec![upsert_by_secret(), upsert(email("executed-upsert"), "")],
        ..Default::default()
    };
    let post = pb::PostActivityRequest {
        lead_id: lead.clone(),
        activity_type: 201,
        ..Default::default()
    };
    let update_activity = pb::UpdateActivityRequest {
        activity_id: callers.activity.clone(),
        activity_type: 201,
        note: Some("x".into()),
        ..Default::default()
    };
    let list_activities = pb::ListActivitiesRequest {
        start_time,
        end_time,
        ..Default::default()
    };
    let modified = pb::ListModifiedLeadsRequest {
        start_time,
        end_time,
        ..Default::default()
    };
    let share = pb::ShareLeadRequest {
        context: None,
        ..callers.share_request(201)
    };
    let by_number = pb::ShareLeadRequest {
        lead: Some(pb::share_lead_request::Lead::LeadNumber("1".into())),
        ..share.clone()
    };
    let merge = pb::MergeLeadsRequest {
        lead_id: lead.clone(),
        merged_lead_id: other(),
        ..Default::default()
    };
    let delete = pb::DeleteLeadRequest {
        lead_id: other(),
        ..Default::default()
    };
    let extend = pb::ExtendShareRequest {
        share_id: share_id.clone(),
        ..Default::default()
    };
    let retry = pb::RetryShareRequest {
        share_id: failed_id,
        ..Default::default()
    };
    let activity_id = callers.activity.clone();
    let activities = pb::ListLeadActivitiesRequest {
        lead_id: lead.clone(),
        ..Default::default()
    };
    let mut cases = vec![
        case("LeadService/CreateLead", create(email("hidden")).encode_to_vec(), Clean),
        case(
            "LeadService/UpdateLead",
            update(lead, email("ann")).encode_to_vec(),
            Clean,
        ),
        case(
            "LeadService/UpsertLead",
            upsert_by_secret().encode_to_vec(),
            Denied(&["match_by"]),
        ),
        case(
            "LeadService/UpsertLead",
            upsert(email("ann"), "").encode_to_vec(),
            Clean,
        ),
        case(
            "LeadService/CaptureLead",
            capture.encode_to_vec(),
            Denied(&["lead.mobile"]),
        ),
        case("LeadService/BatchCreateLeads", batch_creates.encode_to_vec(), Clean),
        case("LeadService/BatchUpdateLeads", batch_updates.encode_to_vec(), Clean),
        case(
            "LeadService/BatchUpsertLeads",
            batch_upserts.encode_to_vec(),
            DeniedItem(&["match_by"]),
        ),
        (
            "LeadService/ImportLeads",
            rows(vec![
                Operation::Upsert(upsert_by_secret()),
                Operation::Create(create(email("executed-import"))),
            ]),
            DeniedItem(&["match_by"]),
        ),
        case("LeadService/GetLead", get(by_id(lead), &[]).encode_to_vec(), Clean),
        case(
            "LeadService/GetLead",
            get(Key::EmailAddress("ann@example.com".into()), &[]).encode_to_vec(),
            Clean,
        ),
        case(
            "LeadService/GetLead",
            get(by_id(lead), &["fields", "read_only_fields"]).encode_to_vec(),
            Clean,
        ),
        case(
            "LeadService/GetLead",
            get(Key::Phone("+91-9000000999".into()), &[]).encode_to_vec(),
            Denied(&["phone"]),
        ),
        case(
            "LeadService/GetLead",
            get(Key::LeadNumber("1".into()), &[]).encode_to_vec(),
            Denied(&["lead_number"]),
        ),
        case(
            "LeadService/GetLead",
            // An unknown path is invalid, but the permission is checked first.
            get(
                by_id(lead),
                &[
                    "fields.city",
                    "fields.stage",
                    "owner_name",
                    "fields.custom.MX_SECRET",
                    "nothing",
                ],
            )
            .encode_to_vec(),
            Denied(&["read_mask.paths[1]", "read_mask.paths[2]", "read_mask.paths[3]"]),
        ),
        case("LeadService/BatchGetLeads", lone_read(lead).encode_to_vec(), Clean),
        case(
            "LeadService/BatchGetLeads",
            pb::BatchGetLeadsRequest {
                read_mask: mask(&["lead_number"]),
                ..lone_read(lead)
            }
            .encode_to_vec(),
            Denied(&["read_mask.paths[0]"]),
        ),
        case(
            "LeadService/SearchLeads",
            search("email_address", "create_time desc").encode_to_vec(),
            Clean,
        ),
        case(
            "LeadService/SearchLeads",
            search("stage", "owner_email_address desc").encode_to_vec(),
            Denied(&["field", "order_by"]),
        ),
        case(
            "LeadService/SearchLeads",
            search("MX_SECRET", "").encode_to_vec(),
            Denied(&["field"]),
        ),
        case(
            "LeadService/QuickSearchLeads",
            quick_search().encode_to_vec(),
            Denied(&["query"]),
        ),
        case("LeadService/ListModifiedLeads", modified.encode_to_vec(), Clean),
        case(
            "LeadService/ListModifiedLeads",
            pb::ListModifiedLeadsRequest {
                read_mask: mask(&["fields.mobile"]),
                ..modified
            }
            .encode_to_vec(),
            Denied(&["read_mask.paths[0]"]),
        ),
        case("LeadService/ExportLeads", export().encode_to_vec(), Clean),
        case(
            "LeadService/ExportLeads",
            pb::ExportLeadsRequest {
                read_mask: mask(&["fields.mobile"]),
                ..export()
            }
            .encode_to_vec(),
            Denied(&["read_mask.paths[0]"]),
        ),
        case("LeadService/DeleteLead", delete.encode_to_vec(), Clean),
        case("LeadService/MergeLeads", merge.encode_to_vec(), Clean),
        case("LeadService/DescribeLeadFields", describe(&[]).encode_to_vec(), Clean),
        case(
            "LeadService/DescribeLeadFields",
            describe(&["city", "owner_id", "mx_secret"]).encode_to_vec(),
            Denied(&["schema_names[1]", "schema_names[2]"]),
        ),
        case("ActivityService/PostActivity", post.encode_to_vec(), Clean),
        case("ActivityService/UpdateActivity", update_activity.encode_to_vec(), Clean),
        case(
            "ActivityService/GetActivity",
            pb::GetActivityRequest { activity_id }.encode_to_vec(),
            Clean,
        ),
        case("ActivityService/ListLeadActivities", activities.encode_to_vec(), Clean),
        case("ActivityService/ListActivities", list_activities.encode_to_vec(), Clean),
        case("ShareService/ShareLead", share.encode_to_vec(), Clean),
        case(
            "ShareService/ShareLead",
            by_number.encode_to_vec(),
            Denied(&["lead_number"]),
        ),
        case("ShareService/ExtendShare", extend.encode_to_vec(), Clean),
        case("ShareService/RetryShare", retry.encode_to_vec(), Clean),
    ];
    cases.extend(cases_without_attributes(callers, &share_id));
    cases
}

/// The cases of RPCs without attributes of leads. The number of a shared lead is tested apart.
fn cases_without_attributes(callers: &Callers, share_id: &str) -> Vec<Case> {
    let share_id = || share_id.to_owned();
    let opportunity = pb::ShareOpportunityRequest {
        opportunity_id: "0f000000-0000-4000-8000-000000000001".into(),
        user: Some(pb::share_opportunity_request::User::UserId(SAM.into())),
        access: pb::Access::Read.into(),
        ..Default::default()
    };
    let shares = pb::RevokeSharesRequest {
        lead_id: callers.lead.clone(),
        ..Default::default()
    };
    let revoke = pb::RevokeShareRequest {
        share: Some(pb::revoke_share_request::Share::ShareId(share_id())),
        ..Default::default()
    };
    let user = pb::GetUserRequest {
        key: Some(pb::get_user_request::Key::UserId(SAM.into())),
    };
    let usage = pb::GetUserShareUsageRequest {
        user: Some(pb::get_user_share_usage_request::User::UserId(SAM.into())),
    };
    let status = pb::GetShareRequestStatusRequest {
        upstream_request_id: "0".repeat(32),
    };
    let activity = pb::GetActivityRequest {
        activity_id: callers.activity.clone(),
    };
    let activities = pb::ListLeadActivitiesRequest {
        lead_id: callers.lead.clone(),
        ..Default::default()
    };
    let (start_time, end_time) = time_range();
    let list = pb::ListActivitiesRequest {
        start_time,
        end_time,
        ..Default::default()
    };
    let cases: Vec<(&'static str, Vec<u8>)> = vec![
        ("ActivityService/GetActivity", activity.encode_to_vec()),
        ("ActivityService/ListLeadActivities", activities.encode_to_vec()),
        ("ActivityService/ListActivities", list.encode_to_vec()),
        ("ActivityService/ListActivityTypes", vec![]),
        ("UserService/GetUser", user.encode_to_vec()),
        ("UserService/ListUsers", vec![]),
        ("QuotaService/GetQuota", vec![]),
        ("QuotaService/WatchQuota", vec![]),
        ("ShareService/ShareOpportunity", opportunity.encode_to_vec()),
        (
            "ShareService/GetShare",
            pb::GetShareRequest { share_id: share_id() }.encode_to_vec(),
        ),
        ("ShareService/ListShares", vec![]),
        (
            "ShareService/WatchShare",
            pb::WatchShareRequest { share_id: share_id() }.encode_to_vec(),
        ),
        ("ShareService/GetUserShareUsage", usage.encode_to_vec()),
        ("ShareService/GetShareRequestStatus", status.encode_to_vec()),
        ("ShareService/RevokeShare", revoke.encode_to_vec()),
        ("ShareService/RevokeShares", shares.encode_to_vec()),
    ];
    cases
        .into_iter()
        .map(|(method, message)| (method, vec![message], NotConcerned))
        .collect()
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    Some(prost_types::FieldMask { paths }).filter(|mask| !mask.paths.is_empty())
}

fn get(key: Key, paths: &[&str]) -> pb::GetLeadRequest {
    pb::GetLeadRequest {
        key: Some(key),
        read_mask: mask(paths),
        ..Default::default()
    }
}

fn search(field: &str, order_by: &str) -> pb::SearchLeadsRequest {
    pb::SearchLeadsRequest {
        field: field.to_owned(),
        value: Some(text("ann@example.com")),
        order_by: order_by.to_owned(),
        ..Default::default()
    }
}

fn quick_search() -> pb::QuickSearchLeadsRequest {
    pb::QuickSearchLeadsRequest {
        query: "ann".into(),
        ..Default::default()
    }
}

fn export() -> pb::ExportLeadsRequest {
    let (start_time, end_time) = time_range();
    pb::ExportLeadsRequest {
        start_time,
        end_time,
        ..Default::default()
    }
}

fn describe(names: &[&str]) -> pb::DescribeLeadFieldsRequest {
    pb::DescribeLeadFieldsRequest {
        schema_names: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// Every RPC of the contract: `Service/Method`.
fn methods() -> BTreeSet<String> {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
    let files = prost_types::FileDescriptorSet::decode(bytes.as_slice()).unwrap().file;
    let services = files
        .iter()
        .filter(|file| file.package() == "leadgate.v1")
        .flat_map(|file| &file.service);
    let names = services.flat_map(|service| {
        let names = service
            .method
            .iter()
            .map(|method| format!("{}/{}", service.name(), method.name()));
        names.collect::<Vec<_>>()
    });
    names.collect()
}

/// A call that would write any attribute.
fn rest_call(lead_id: &str) -> Case {
    let message = pb::CallRequest {
        method: "POST".into(),
        path: "LeadManagement.svc/Lead.Update".into(),
        query: [("leadId".to_owned(), lead_id.to_owned())].into(),
        body: br#"[{"Attribute":"OwnerId","Value":"x"}]"#.to_vec(),
        ..Default::default()
    };
    ("RestService/Call", vec![message.encode_to_vec()], Denied(&["path"]))
}

async fn check(callers: &Callers, caller: &str, mut cases: Vec<Case>) {
    // First, because shares of other cases are still polled after them.
    cases.insert(0, rest_call(&callers.lead));
    let covered: BTreeSet<String> = cases.iter().map(|(method, ..)| (*method).to_owned()).collect();
    assert_eq!(covered, methods(), "each RPC needs a case of {caller}");
    for (number, (method, messages, expected)) in cases.into_iter().enumerate() {
        let at = format!("{caller} {method} ({number})");
        callers.world.simulator.forget_calls();
        callers.new_lines();
        let response = callers.call(caller, method, messages).await;
        if is_mutation(&format!("/leadgate.v1.{method}")) && matches!(expected, Denied(_) | DeniedItem(_)) {
            let mut lines = callers.new_lines();
            if matches!(expected, DeniedItem(_)) {
                lines.retain(|line| line["outcome"] != "OK");
            }
            assert_eq!(lines.len(), 1, "{at} {lines:?}");
            let line = &lines[0];
            assert_eq!(
                (&line["caller"], &line["outcome"]),
                (&caller.into(), &"CALLER_NOT_ALLOWED".into()),
                "{at}"
            );
            // The line shows what was denied: the attributes, or what else a write would change.
            let has_fields = line["fields"].as_array().is_some_and(|fields| !fields.is_empty());
            let has_id = !line["lead_id"].is_null() || !line["share_id"].is_null();
            // The fields of a call of the REST API are not read.
            let is_opaque = method == "RestService/Call";
            assert!(has_fields || has_id || is_opaque || caller == "reader", "{at} {line}");
        }
        let executed = |name: &str| {
            callers
                .world
                .simulator
                .leads()
                .iter()
                .any(|lead| lead["EmailAddress"].as_deref() == Some(name))
        };
        match (expected, response) {
            (Denied(fields), Err(status)) => {
                let error = seen(status);
                assert_eq!(
                    (error.code, error.reason.as_str()),
                    (Code::PermissionDenied, "CALLER_NOT_ALLOWED"),
                    "{at} {error:?}"
                );
                assert_eq!(
                    (error.fields(), error.metadata["rule"].as_str()),
                    (fields.to_vec(), "field"),
                    "{at}"
                );
                assert_eq!(error.pushback(), None, "{at}");
                assert!(callers.world.simulator.calls().is_empty(), "{at} was sent");
            }
            (DeniedItem(fields), Ok(response)) => {
                assert!(contains(&response, "CALLER_NOT_ALLOWED"), "{at}");
                for field in fields {
                    assert!(contains(&response, field), "{at} {field}");
                }
                let kind = method.rsplit("Batch").next().unwrap_or_default();
                let name = ["create", "update", "upsert"]
                    .into_iter()
                    .find(|name| kind.to_lowercase().starts_with(name));
                let name = format!("executed-{}@example.com", name.unwrap_or("import"));
                assert!(executed(&name), "{at}: the other item was not executed");
            }
            (Clean, Ok(response)) => assert_clean(&response, &at),
            (NotConcerned, Ok(_)) => {}
            // The simulator does not know the request of the status, and other RPCs are not valid in each state.
            (Clean | NotConcerned, Err(status)) => {
                let error = seen(status);
                assert_ne!(error.reason, "CALLER_NOT_ALLOWED", "{at} {error:?}");
                let may_fail = ["GetShareRequestStatus", "ShareOpportunity", "RetryShare"]
                    .iter()
                    .any(|name| method.ends_with(name));
                assert!(may_fail, "{at} {error:?}");
            }
            (Denied(_) | DeniedItem(_), response) => panic!("{at} {response:?}"),
        }
    }
}

#[tokio::test]
async fn no_rpc_writes_a_denied_attribute() {
    let callers = Callers::start().await;
    let cases = denied_cases(&callers).await;
    check(&callers, "writer", cases).await;
    let stored = |name| callers.world.value_of(&callers.lead, name);
    assert_eq!(stored("OwnerId").as_deref(), Some(SITA));
    assert_eq!(stored("mx_Secret").as_deref(), Some("canary-secret"));
    assert_eq!(stored("Notes"), None);
}

#[tokio::test]
async fn no_rpc_shows_a_hidden_attribute() {
    let callers = Callers::start().await;
    let cases = hidden_cases(&callers).await;
    check(&callers, "reader", cases).await;
}

#[tokio::test]
async fn the_responses_have_the_canaries_of_the_test() {
    let callers = Callers::start().await;
    let id = by_id(&callers.lead);
    let lead = callers
        .call("admin", "LeadService/GetLead", vec![get(id, &[]).encode_to_vec()])
        .await
        .unwrap();
    for canary in ["canary-secret", "canary-stage", SITA, "9000000999", "mx_Secret"] {
        assert!(contains(&lead, canary), "{canary}");
    }
    let activities = pb::ListLeadActivitiesRequest {
        lead_id: callers.lead.clone(),
        ..Default::default()
    };
    let activities = callers
        .call(
            "admin",
            "ActivityService/ListLeadActivities",
            vec![activities.encode_to_vec()],
        )
        .await
        .unwrap();
    assert!(contains(&activities, "canary-field") && contains(&activities, "canary-change"));
}

async fn denied<T: std::fmt::Debug>(response: impl Future<Output = Result<T, Status>>) -> Seen {
    let error = seen(response.await.unwrap_err());
    error.is(Code::PermissionDenied, "CALLER_NOT_ALLOWED");
    error
}

#[tokio::test]
async fn a_denied_write_leaves_no_record_and_no_request_id_opens_it() {
    let callers = Callers::start().await;
    let (mut admin, mut writer) = (callers.client("admin").await, callers.client("writer").await);
    let request_id = "11111111-1111-4111-8111-111111111111".to_owned();
    let message = pb::CreateLeadRequest {
        request_id: request_id.clone(),
        ..create(denied_lead("once"))
    };
    let error = denied(writer.create_lead(message.clone())).await;
    assert_eq!(error.fields(), DENIED_LEAD);
    assert_eq!(error.retry_same_request_id(), None);
    // A record of the denied write would make this the request id of another message.
    let other = pb::CreateLeadRequest {
        request_id: request_id.clone(),
        ..create(email("another"))
    };
    admin.create_lead(other).await.unwrap();

    let message = pb::CreateLeadRequest {
        request_id: "22222222-2222-4222-8222-222222222222".to_owned(),
        ..message
    };
    admin.create_lead(message.clone()).await.unwrap();
    denied(writer.create_lead(message.clone())).await;
    admin.create_lead(message).await.unwrap();
    assert_eq!(callers.world.calls("Lead.Create").len(), 2);
}

#[tokio::test]
async fn the_permission_is_checked_before_the_form_and_by_validate_only() {
    let callers = Callers::start().await;
    let mut writer = callers.client("writer").await;
    let invalid = pb::LeadFields {
        phone: Some("no number".into()),
        custom: custom(&[("OWNERID", text("x")), ("mx_secret", pb::FieldValue::default())]),
        ..denied_lead("a")
    };
    let message = pb::CreateLeadRequest {
        request_id: "no uuid".into(),
        ..create(invalid)
    };
    let error = denied(writer.create_lead(message)).await;
    let expected = [
        "lead.owner_id",
        "lead.notes",
        "lead.custom[\"OWNERID\"]",
        "lead.custom[\"mx_secret\"]",
    ];
    assert_eq!(error.fields(), expected);
    let message = pb::CreateLeadRequest {
        validate_only: true,
        ..create(denied_lead("a"))
    };
    assert_eq!(denied(writer.create_lead(message)).await.fields(), DENIED_LEAD);
    assert!(callers.world.simulator.calls().is_empty());
}

#[tokio::test]
async fn callers_with_other_permissions_share_reads_and_cached_rows() {
    let callers = Callers::start().await;
    let read = async |caller: &str, max_staleness: Option<prost_types::Duration>| {
        let message = pb::GetLeadRequest {
            max_staleness,
            ..get(by_id(&callers.lead), &[])
        };
        let response = callers.client(caller).await.get_lead(message).await.unwrap();
        response.into_inner().lead.unwrap()
    };
    let recent = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    // The row of the caller that sees less is cached.
    let hidden = read("reader", recent).await;
    let all = read("admin", recent).await;
    let again = read("reader", recent).await;
    assert_eq!(callers.world.simulator.calls().len(), 1);
    assert_eq!(hidden, again);
    assert_clean(&hidden.encode_to_vec(), "cached");
    let fields = all.fields.unwrap();
    assert_eq!(fields.stage.as_deref(), Some("canary-stage"));
    assert_eq!(fields.custom["mx_Secret"], text("canary-secret"));
    let shown = hidden.fields.unwrap();
    assert_eq!(
        (shown.first_name, shown.email_address),
        (fields.first_name, fields.email_address)
    );
    assert!(!all.owner_name.is_empty() && !all.lead_number.is_empty());
    assert_eq!(
        (hidden.owner_name, hidden.owner_email_address, hidden.lead_number),
        Default::default()
    );

    callers.world.set_options(|options| {
        let latency = std::time::Duration::from_millis(200);
        (options.latency.min, options.latency.max) = (latency, latency);
    });
    let (hidden, all) = tokio::join!(read("reader", None), read("admin", None));
    assert_eq!(callers.world.simulator.calls().len(), 2);
    assert_clean(&hidden.encode_to_vec(), "in flight");
    assert_eq!(all.fields.unwrap().stage.as_deref(), Some("canary-stage"));
}

#[tokio::test]
async fn a_page_token_of_another_caller_brings_no_criterion_and_no_column() {
    let callers = Callers::start().await;
    for n in 0..3 {
        let secret = format!("canary-{n}");
        callers
            .world
            .simulator
            .insert_lead(&[("FirstName", "Bob"), ("mx_Secret", &secret)]);
    }
    let (mut admin, mut reader) = (callers.client("admin").await, callers.client("reader").await);
    let page = |field: &str, page_token: &str| pb::SearchLeadsRequest {
        value: Some(text("Bob")),
        page_size: 1,
        page_token: page_token.to_owned(),
        ..search(field, "")
    };
    let token = admin
        .search_leads(page("first_name", ""))
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    assert!(!token.is_empty());
    let listed = reader
        .search_leads(page("first_name", &token))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.leads.len(), 1);
    assert_clean(&listed.encode_to_vec(), "search");
    assert_eq!(
        denied(reader.search_leads(page("mx_Secret", &token))).await.fields(),
        ["field"]
    );

    let (start_time, end_time) = time_range();
    let page = |page_token: &str| pb::ListModifiedLeadsRequest {
        start_time,
        end_time,
        page_size: 1,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    let token = admin
        .list_modified_leads(page(""))
        .await
        .unwrap()
        .into_inner()
        .next_page_token;
    assert!(!token.is_empty());
    let listed = reader.list_modified_leads(page(&token)).await.unwrap().into_inner();
    assert_eq!(listed.leads.len(), 1);
    assert_clean(&listed.encode_to_vec(), "list");
}

#[tokio::test]
async fn leads_are_not_listed_by_a_hidden_time() {
    let callers = Callers::with(&[("admin", &[], &[]), ("reader", &[], &["LeadLastModifiedOn"])]).await;
    let mut reader = callers.client("reader").await;
    let (start_time, end_time) = time_range();
    let message = pb::ListModifiedLeadsRequest {
        start_time,
        end_time,
        ..Default::default()
    };
    assert_eq!(
        denied(reader.list_modified_leads(message)).await.fields(),
        ["start_time"]
    );
    let exported = callers.call("reader", "LeadService/ExportLeads", vec![export().encode_to_vec()]);
    assert_eq!(denied(exported).await.fields(), ["start_time"]);
    assert!(callers.world.simulator.calls().is_empty());
}

#[tokio::test]
async fn a_hidden_attribute_may_be_written_and_errors_do_not_show_it() {
    let callers = Callers::with(&[
        ("admin", &[], &[]),
        ("reader", &[], &["EmailAddress", "mx_Secret", "mx_Segment"]),
    ])
    .await;
    let (mut admin, mut reader) = (callers.client("admin").await, callers.client("reader").await);
    let secret = pb::LeadFields {
        custom: custom(&[("mx_Secret", text("written"))]),
        ..Default::default()
    };
    reader.update_lead(update(&callers.lead, secret)).await.unwrap();
    assert_eq!(
        callers.world.value_of(&callers.lead, "mx_Secret").as_deref(),
        Some("written")
    );

    let by_email = get(Key::EmailAddress("ann@example.com".into()), &[]);
    assert_eq!(denied(reader.get_lead(by_email)).await.fields(), ["email_address"]);
    let matched = reader.upsert_lead(upsert(email("ann"), ""));
    assert_eq!(denied(matched).await.fields(), ["lead.email_address"]);

    // The same request id: the stored error is the same, and what is shown of it is not.
    let message = pb::CreateLeadRequest {
        request_id: "33333333-3333-4333-8333-333333333333".into(),
        ..create(email("ann"))
    };
    let error = seen(reader.create_lead(message.clone()).await.unwrap_err());
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    let resource = error.details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_name.as_str(), resource.description.as_str()),
        ("", "")
    );
    assert_eq!(error.metadata.get("field"), None);
    let error = seen(admin.create_lead(message).await.unwrap_err());
    error.is(Code::AlreadyExists, "LEAD_DUPLICATE");
    let resource = error.details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_name.as_str(), resource.description.as_str()),
        (callers.lead.as_str(), "lead.email_address")
    );

    let misspelled = pb::LeadFields {
        custom: custom(&[("mx_Secrett", text("x")), ("mx_Segment", text("nothing"))]),
        ..Default::default()
    };
    let shown = seen(
        reader
            .update_lead(update(&callers.lead, misspelled.clone()))
            .await
            .unwrap_err(),
    );
    shown.is(Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(
        shown.fields(),
        ["lead.custom[\"mx_Secrett\"]", "lead.custom[\"mx_Segment\"]"]
    );
    let shown = format!("{:?}", shown.details);
    assert!(!shown.contains("did you mean") && !shown.contains("options"), "{shown}");
    let error = seen(admin.update_lead(update(&callers.lead, misspelled)).await.unwrap_err());
    let shown = format!("{:?}", error.details);
    assert!(
        shown.contains("did you mean mx_Secret?") && shown.contains("options"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_share_has_no_hidden_lead_number() {
    let callers = Callers::start().await;
    let shared: pb::ShareLeadResponse = callers
        .admin("ShareService/ShareLead", &callers.share_request(201))
        .await;
    let share = shared.share.unwrap();
    let share_id = share.share_id.clone();
    let request = pb::GetShareRequest { share_id }.encode_to_vec();
    let lead_number = async |caller: &str| {
        let response = callers
            .call(caller, "ShareService/GetShare", vec![request.clone()])
            .await
            .unwrap();
        let share = pb::GetShareResponse::decode(response.as_slice())
            .unwrap()
            .share
            .unwrap();
        share.lead_number
    };
    assert!(!share.lead_number.is_empty());
    assert_eq!(lead_number("admin").await, share.lead_number);
    assert_eq!(lead_number("reader").await, "");
}

#[tokio::test]
async fn the_failure_of_a_share_or_an_activity_does_not_show_a_hidden_attribute() {
    let callers = Callers::start().await;
    let reject = || {
        let text = "Invalid value 'canary' for mx_Secret of the lead";
        let body = format!(
            r#"{{"Status":"Error","ExceptionType":"MXInvalidInputException","ExceptionMessage":"{text}","IsMXException":true}}"#
        );
        let fault = FaultKind::Respond {
            status: 500,
            body,
            content_type: None,
            commit: false,
        };
        callers.world.fail_next("ProspectActivity.Create", fault);
    };
    let share = callers.share_request(201).encode_to_vec();
    let failed = async |method: &str, message: Vec<u8>| {
        reject();
        let status = callers.call("reader", method, vec![message]).await.unwrap_err();
        assert_clean(status.details(), method);
        assert_clean(status.message().as_bytes(), method);
        let error = seen(status);
        error.is(Code::InvalidArgument, "INVALID_FIELD");
        error
    };
    let error = failed("ShareService/ShareLead", share).await;
    assert_eq!(error.fields(), ["new_activity"]);
    let share_id = error.metadata["share_id"].clone();
    let retry = pb::RetryShareRequest {
        share_id: share_id.clone(),
        ..Default::default()
    };
    let error = failed("ShareService/RetryShare", retry.encode_to_vec()).await;
    assert_eq!(error.fields(), ["new_activity"]);

    let id = share_id.clone();
    for (method, message) in [
        ("GetShare", pb::GetShareRequest { share_id }.encode_to_vec()),
        ("WatchShare", pb::WatchShareRequest { share_id: id }.encode_to_vec()),
        ("ListShares", pb::ListSharesRequest::default().encode_to_vec()),
    ] {
        let method = format!("ShareService/{method}");
        let read = async |caller| callers.call(caller, &method, vec![message.clone()]).await.unwrap();
        let shown = read("reader").await;
        assert!(contains(&shown, "INVALID_FIELD"), "{method}");
        assert_clean(&shown, &method);
        // Another caller sees the name of the attribute, and the value neither.
        let shown = read("admin").await;
        assert!(contains(&shown, "mx_Secret") && !contains(&shown, "canary"), "{method}");
    }

    let post = pb::PostActivityRequest {
        lead_id: callers.lead.clone(),
        activity_type: 201,
        ..Default::default()
    };
    let error = failed("ActivityService/PostActivity", post.encode_to_vec()).await;
    assert_eq!(error.fields(), ["fields"]);
    // The request names the attribute.
    let post = pb::PostActivityRequest {
        fields: custom(&[("mx_Secret", text("x"))]),
        ..post
    };
    reject();
    let post = callers.call("reader", "ActivityService/PostActivity", vec![post.encode_to_vec()]);
    assert_eq!(seen(post.await.unwrap_err()).fields(), ["fields[\"mx_Secret\"]"]);
}

/// The names of attributes with a text, and a value for each.
const TEXTS: [&str; 18] = [
    "FirstName",
    "LastName",
    "Company",
    "JobTitle",
    "Website",
    "Source",
    "SourceMedium",
    "SourceCampaign",
    "SourceContent",
    "ProspectStage",
    "Notes",
    "mx_Street1",
    "mx_Street2",
    "mx_City",
    "mx_State",
    "mx_Country",
    "mx_Zip",
    "mx_Secret",
];

#[tokio::test]
async fn no_response_has_a_value_that_is_hidden_by_a_random_list() {
    let mut seed = 7_u64;
    let mut random = || {
        // Numerical Recipes.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut lists: Vec<(String, Vec<&str>)> = vec![("admin".to_owned(), vec![])];
    for n in 0..12 {
        lists.push((
            format!("reader{n}"),
            TEXTS.into_iter().filter(|_| random() % 2 == 0).collect(),
        ));
    }
    let settings: Vec<(&str, &[&str], &[&str])> = lists
        .iter()
        .map(|(name, hidden)| (name.as_str(), [].as_slice(), hidden.as_slice()))
        .collect();
    let callers = Callers::with(&settings).await;
    let value = |name: &str| format!("value-of-{}.", name.to_lowercase());
    let values: Vec<(&str, String)> = TEXTS.iter().map(|name| (*name, value(name))).collect();
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let lead = callers.world.simulator.insert_lead(&values);
    let (start_time, end_time) = time_range();
    let modified = pb::ListModifiedLeadsRequest {
        start_time,
        end_time,
        ..Default::default()
    };
    for (caller, hidden) in &lists {
        let reads = [
            ("GetLead", get(by_id(&lead), &[]).encode_to_vec()),
            ("BatchGetLeads", lone_read(&lead).encode_to_vec()),
            ("ListModifiedLeads", modified.encode_to_vec()),
            ("ExportLeads", export().encode_to_vec()),
        ];
        for (method, message) in reads {
            let response = callers
                .call(caller, &format!("LeadService/{method}"), vec![message])
                .await
                .unwrap();
            for name in TEXTS {
                let is_shown = contains(&response, &value(name));
                assert_eq!(is_shown, !hidden.contains(&name), "{caller} {method} {name}");
                // The names of attributes without a field of their own are in the bytes, too.
                let is_named = name.starts_with("mx_Secret") && contains(&response, name);
                assert!(!is_named || !hidden.contains(&name), "{caller} {method} {name}");
            }
        }
    }
}
