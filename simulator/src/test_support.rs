//! A simulator to ask, for the tests beside the code.

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Method, Request, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{Options, Simulator};

pub(crate) struct Bench {
    pub(crate) simulator: Simulator,
}

impl Bench {
    /// A simulator that lets everything through, but for what is changed.
    pub(crate) fn new(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options::default();
        options.limits.calls = 0;
        options.limits.bulk = 0;
        change(&mut options);
        let simulator = Simulator::new(options);
        Self { simulator }
    }

    pub(crate) async fn get(&self, name: &str) -> (u16, Value) {
        self.ask(Method::GET, name, String::new()).await
    }

    pub(crate) async fn post(&self, name: &str, body: Value) -> (u16, Value) {
        self.ask(Method::POST, name, body.to_string()).await
    }

    /// Asks a lead endpoint, or the one at a path in full.
    pub(crate) async fn ask(&self, method: Method, name: &str, body: String) -> (u16, Value) {
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

    pub(crate) async fn send(&self, request: Request<Body>) -> (u16, Bytes) {
        let response = self.simulator.clone().router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, body)
    }

    /// Makes a lead over the API and returns its id.
    pub(crate) async fn create(&self, pairs: &[(&str, &str)]) -> String {
        let (status, answer) = self.post("Lead.Create", attributes(pairs)).await;
        assert_eq!(status, 200, "{answer}");
        answer["Message"]["Id"].as_str().unwrap().into()
    }

    /// The stored value of an attribute of a lead.
    pub(crate) fn stored(&self, id: &str, attribute: &str) -> Option<String> {
        let leads = self.simulator.leads();
        let lead = leads
            .iter()
            .find(|lead| lead["ProspectID"].as_deref() == Some(id))
            .unwrap();
        lead[attribute].clone()
    }
}

/// Pairs as a body has them.
pub(crate) fn attributes(pairs: &[(&str, &str)]) -> Value {
    let pair = |(name, value): &(&str, &str)| json!({"Attribute": name, "Value": value});
    pairs.iter().map(pair).collect()
}
