//! The services of the public contract. Server, health and reflection are made from the one list in this file.

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::activity::ActivityHandlers;
use super::lead::LeadHandlers;
use super::pb;
use super::pb::activity_service_server::ActivityServiceServer;
use super::pb::lead_service_server::LeadServiceServer;
use super::pb::quota_service_server::QuotaServiceServer;
use super::pb::rest_service_server::RestServiceServer;
use super::pb::share_service_server::ShareServiceServer;
use super::pb::user_service_server::UserServiceServer;
use super::quota::QuotaHandlers;
use super::rest::RestHandlers;
use super::rpc::ServerContext;
use super::share::ShareHandlers;
use super::user::UserHandlers;

macro_rules! services {
    ($($server:ident<$handlers:ident>),* $(,)?) => {
        /// The full names of all services.
        const NAMES: &[&str] = &[$(<$server<$handlers> as NamedService>::NAME),*];

        /// Adds all services to the routes.
        fn add_services(routes: Routes, context: &ServerContext) -> Routes {
            let max_request_bytes = context.settings.max_request_bytes;
            routes$(.add_service(
                $server::new($handlers { server: context.clone() })
                    .max_decoding_message_size(max_request_bytes)
                    .max_encoding_message_size(usize::MAX)
                    .accept_compressed(CompressionEncoding::Gzip),
            ))*
        }
    };
}

services! {
    LeadServiceServer<LeadHandlers>,
    ShareServiceServer<ShareHandlers>,
    ActivityServiceServer<ActivityHandlers>,
    UserServiceServer<UserHandlers>,
    QuotaServiceServer<QuotaHandlers>,
    RestServiceServer<RestHandlers>,
}

/// The encoded descriptors of all services, health and reflection included.
pub(super) const DESCRIPTORS: [&[u8]; 4] = [
    pb::DESCRIPTORS,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// Returns the paths of all RPCs of the contract, such as `/leadgate.v1.LeadService/GetLead`.
pub fn rpc_paths() -> Vec<String> {
    let files = FileDescriptorSet::decode(pb::DESCRIPTORS)
        .expect("the build has checked the descriptors")
        .file;
    let services = files
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)));
    let paths = services.flat_map(|(package, service)| {
        let methods = service.method.iter();
        methods.map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
    });
    paths.collect()
}

/// Returns the routes of all services, with health (SERVING for all) and reflection (if it is on), and the reporter of the health.
pub(super) async fn routes(context: &ServerContext) -> (Routes, HealthReporter) {
    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, ServingStatus::Serving).await;
    let mut routes = Routes::new(health.accept_compressed(CompressionEncoding::Gzip));
    if context.settings.reflection.is_on(context.access.mode()) {
        routes = routes
            .add_service(
                reflection()
                    .build_v1()
                    .expect("the build has checked the descriptors")
                    .accept_compressed(CompressionEncoding::Gzip),
            )
            .add_service(
                reflection()
                    .build_v1alpha()
                    .expect("the build has checked the descriptors")
                    .accept_compressed(CompressionEncoding::Gzip),
            );
    }
    (add_services(routes, context).prepare(), reporter)
}

/// Sets the health of every service, and of the server as a whole (the name "").
pub(super) async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for name in NAMES.iter().chain(&[""]) {
        reporter.set_service_status(name, status).await;
    }
}

/// The reflection service. It adds its own descriptors.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_of_the_contract_is_served() {
        let descriptors = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
        let files = descriptors.file.iter().filter(|file| file.package() == "leadgate.v1");
        let mut expected: Vec<_> = files
            .flat_map(|file| &file.service)
            .map(|service| format!("leadgate.v1.{}", service.name()))
            .collect();
        let mut served = NAMES.to_vec();
        expected.sort();
        served.sort_unstable();
        assert_eq!(served, expected);
    }
}
