//! The health of the services: grpc.health.v1 reports every service of the contract, while serving and while draining.

use std::time::Duration;

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::harness::{World, channel};

/// The names of all services of the contract, by reflection.
async fn services(world: &World) -> Vec<String> {
    let mut client = ServerReflectionClient::new(channel(world.address).await);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let responses = client.server_reflection_info(tokio_stream::iter([request])).await;
    let response: ServerReflectionResponse = responses.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = response.message_response else {
        panic!("{response:?}");
    };
    let names = list.service.into_iter().map(|service| service.name);
    names.filter(|name| name.starts_with("leadgate.")).collect()
}

fn request(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn health_reports_every_service_and_not_serving_for_all_while_draining() {
    let world = World::start().await;
    let mut names = services(&world).await;
    assert_eq!(names.len(), 6, "{names:?}");
    // The server as a whole.
    names.push(String::new());

    let mut client = HealthClient::new(channel(world.address).await);
    let mut watches = vec![];
    for name in &names {
        let checked = client.check(request(name)).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving, "{name:?}");
        let mut watch = client.watch(request(name)).await.unwrap().into_inner();
        assert_eq!(next(watch.message().await), ServingStatus::Serving, "{name:?}");
        watches.push((name, watch));
    }
    let unknown = client.check(request("leadgate.v1.Unknown")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    world.tell_to_stop();
    for (name, mut watch) in watches {
        let status = tokio::time::timeout(Duration::from_secs(5), watch.message()).await;
        assert_eq!(next(status.unwrap()), ServingStatus::NotServing, "{name:?}");
    }
    world.stop().await;
}

fn next(message: Result<Option<HealthCheckResponse>, tonic::Status>) -> ServingStatus {
    message.unwrap().unwrap().status()
}
