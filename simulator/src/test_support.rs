//! A simulator without a socket, for unit tests.

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{Options, Simulator};

pub(crate) struct TestServer {
    pub(crate) simulator: Simulator,
}

impl TestServer {
    /// Creates a simulator without rate limits. `change` modifies the other options.
    pub(crate) fn new(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        options.limits.calls = 0;
        options.limits.bulk = 0;
        change(&mut options);
        let simulator = Simulator::new(options);
        Self { simulator }
    }

    pub(crate) async fn get(&self, name: &str) -> (u16, Value) {
        self.call(Method::GET, name, String::new()).await
    }

    pub(crate) async fn post(&self, name: &str, body: Value) -> (u16, Value) {
        self.call(Method::POST, name, body.to_string()).await
    }

    /// Calls an endpoint. A `name` that begins with `/` is a path; any other name is a path of the lead service.
    pub(crate) async fn call(&self, method: Method, name: &str, body: String) -> (u16, Value) {
        let path = match name.starts_with('/') {
            true => name.to_owned(),
            false => format!("/v2/LeadManagement.svc/{name}"),
        };
        let options = Options::default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .header("x-LSQ-AccessKey", options.access_key)
            .header("x-LSQ-SecretKey", options.secret_key)
            .body(Body::from(body))
            .unwrap();
        let (status, body) = self.send(request).await;
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(crate) async fn respond(&self, request: Request<Body>) -> Response<Body> {
        self.simulator.clone().router().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> (u16, Bytes) {
        let response = self.respond(request).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, body)
    }

    /// Creates a lead with `Lead.Create` and returns its id.
    pub(crate) async fn create(&self, pairs: &[(&str, &str)]) -> String {
        let (status, response) = self.post("Lead.Create", attributes(pairs)).await;
        assert_eq!(status, 200, "{response}");
        response["Message"]["Id"].as_str().unwrap().into()
    }

    /// Returns the stored value of an attribute of a lead.
    pub(crate) fn stored(&self, id: &str, attribute: &str) -> Option<String> {
        let leads = self.simulator.leads();
        let lead = leads
            .iter()
            .find(|lead| lead["ProspectID"].as_deref() == Some(id))
            .unwrap();
        lead[attribute].clone()
    }
}

/// Returns the pairs as a request body.
pub(crate) fn attributes(pairs: &[(&str, &str)]) -> Value {
    let pair = |(name, value): &(&str, &str)| json!({"Attribute": name, "Value": value});
    pairs.iter().map(pair).collect()
}
