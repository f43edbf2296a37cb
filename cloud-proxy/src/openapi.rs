//! What the proxy tells of itself in the OpenAPI document, by hand: behind its addresses stand the devices' own
//! APIs, of which nothing can be said here.

use runtime::http::described_problem;
use utoipa::openapi::{
    HttpMethod, OpenApi, Paths, Required, ResponseBuilder, ResponsesBuilder,
    path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    schema::{ObjectBuilder, SchemaType, Type},
    security::SecurityRequirement,
};

use crate::SUBPROTOCOL;

/// The operations under `/d` and the raw streams.
pub fn openapi() -> OpenApi {
    let mut paths = Paths::new();
    for (method, word) in [
        (HttpMethod::Get, "get"),
        (HttpMethod::Post, "post"),
        (HttpMethod::Put, "put"),
        (HttpMethod::Patch, "patch"),
        (HttpMethod::Delete, "delete"),
        (HttpMethod::Options, "options"),
    ] {
        paths.add_path_operation("/d/{device}/{service}/{path}", vec![method], proxied(word));
    }
    paths.add_path_operation("/v1/devices/{id}/streams/{service}", vec![HttpMethod::Get], stream());
    let mut document = OpenApi::default();
    document.paths = paths;
    document
}

fn proxied(word: &str) -> Operation {
    let answer = ResponseBuilder::new().description("The device's answer, as the device gave it.").build();
    let responses = ResponsesBuilder::new()
        .response("default", answer)
        .response("401", described_problem("No proxy token, or one that is not good."))
        .response(
            "503",
            described_problem("The device is not connected; `Retry-After` says when to ask again."),
        );
    let summary = format!("{} of a service of a device", word.to_uppercase());
    OperationBuilder::new()
        .tag(TAG)
        .operation_id(Some(format!("{word}OfDevice")))
        .summary(Some(summary))
        .description(Some(
            "Path and query reach the device as they are after the prefix. `Proxy-Status` tells whose error an error is.",
        ))
        .parameter(path("device", "The device."))
        .parameter(path("service", "One of its HTTP services."))
        .parameter(path("path", "Whatever the service has; it may contain slashes."))
        .responses(responses.build())
        .security(token())
        .build()
}

fn stream() -> Operation {
    let upgraded =
        ResponseBuilder::new().description("A WebSocket whose binary frames are the bytes of the service.");
    let responses = ResponsesBuilder::new()
        .response("101", upgraded.build())
        .response("401", described_problem("No proxy token, or one that is not good."))
        .response("403", described_problem("No such device, or nothing granted there that covers this."))
        .response("default", described_problem("The stream was not opened; `code` says why."));
    OperationBuilder::new()
        .tag(TAG)
        .operation_id(Some("openStream"))
        .summary(Some("A raw stream to a TCP service of a device"))
        .description(Some(format!(
            "A WebSocket with the subprotocol `{SUBPROTOCOL}`; level operator or owner."
        )))
        .parameter(path("id", "The device."))
        .parameter(path("service", "One of its TCP services."))
        .responses(responses.build())
        .security(token())
        .build()
}

fn path(name: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(text))
        .build()
}

fn token() -> SecurityRequirement {
    SecurityRequirement::new("proxytoken", [""; 0])
}

const TAG: &str = "proxy";
