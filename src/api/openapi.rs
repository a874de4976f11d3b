//! `GET /v1/openapi.json`: the document that describes the API (OpenAPI 3.1), made from the operations that the router
//! has and the types that they read and write.

use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::dto;
use super::operations::operations;
use super::problem::Problem;
use crate::config::Role;

/// Something that a client can ask for.
pub(super) struct Operation {
    pub(super) method: Method,
    /// As the router has it.
    pub(super) path: &'static str,
    /// A name for generated clients.
    id: &'static str,
    summary: &'static str,
    needs: Needs,
    pub(super) parameters: Vec<Parameter>,
    body: Option<Shape>,
    replies: Vec<Reply>,
    problems: Vec<StatusCode>,
}

/// The methods that operations have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Delete,
}

/// Who may ask for it over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Everyone, always.
    Nothing,
    /// Everyone, unless `[control] read` says that reads need a token, too.
    Read,
    /// Holders of a token of at least this role.
    Token(Role),
}

/// A parameter of the query or the path.
pub(super) struct Parameter {
    name: &'static str,
    about: &'static str,
    place: Place,
    is_repeated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Query { is_required: bool },
    Path,
    Header,
}

/// A reply that is not a problem.
struct Reply {
    status: StatusCode,
    about: &'static str,
    kind: &'static str,
    content: Shape,
}

/// The schema of a type.
type Shape = fn(&mut SchemaGenerator) -> Schema;

/// The schema of text.
fn text(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<String>()
}

/// An optional parameter of the query.
pub(super) const fn query(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, place: Place::Query { is_required: false }, is_repeated: false }
}

/// A header of the request.
pub(super) const fn request_header(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, place: Place::Header, is_repeated: false }
}

/// A part of the path.
pub(super) const fn part(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, place: Place::Path, is_repeated: false }
}

impl Parameter {
    /// It must be there.
    pub(super) const fn required(mut self) -> Self {
        self.place = Place::Query { is_required: true };
        self
    }

    /// It may be there more than once.
    pub(super) const fn repeated(mut self) -> Self {
        self.is_repeated = true;
        self
    }
}

impl Operation {
    pub(super) fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Get, path, id, summary, Needs::Read)
    }

    pub(super) fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Post, path, id, summary, Needs::Token(Role::Operator))
    }

    pub(super) fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::Delete, path, id, summary, Needs::Token(Role::Operator))
    }

    fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        needs: Needs,
    ) -> Self {
        let (parameters, body, replies, problems) = (Vec::new(), None, Vec::new(), Vec::new());
        Self { method, path, id, summary, needs, parameters, body, replies, problems }
    }

    pub(super) fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    pub(super) fn takes(self, parameters: impl Into<Vec<Parameter>>) -> Self {
        Self { parameters: parameters.into(), ..self }
    }

    pub(super) fn reads<T: JsonSchema>(self) -> Self {
        Self { body: Some(|generator| generator.subschema_for::<T>()), ..self }
    }

    /// Replies with JSON.
    pub(super) fn gives<T: JsonSchema>(self, about: &'static str) -> Self {
        let content: Shape = |generator| generator.subschema_for::<T>();
        self.replies(StatusCode::OK, about, "application/json", content)
    }

    /// Replies with text of another kind.
    pub(super) fn gives_text(self, kind: &'static str, about: &'static str) -> Self {
        self.replies(StatusCode::OK, about, kind, text)
    }

    /// Replies with a sentence and this status.
    pub(super) fn or_says(self, status: StatusCode, about: &'static str) -> Self {
        self.replies(status, about, "text/plain; charset=utf-8", text)
    }

    fn replies(
        mut self,
        status: StatusCode,
        about: &'static str,
        kind: &'static str,
        content: Shape,
    ) -> Self {
        self.replies.push(Reply { status, about, kind, content });
        self
    }

    /// Replies with problems of these kinds, too, besides those that every operation has.
    pub(super) fn or_fails(self, problems: impl Into<Vec<StatusCode>>) -> Self {
        Self { problems: problems.into(), ..self }
    }

    /// Whether a query with parameters is an error.
    pub(super) fn forbids_parameters(&self) -> bool {
        let takes_none = !self.parameters.iter().any(|it| matches!(it.place, Place::Query { .. }));
        takes_none && self.path.starts_with("/v1/") && self.method != Method::Delete
    }

    fn described(&self, written: &mut SchemaGenerator, read: &mut SchemaGenerator) -> Value {
        let mut about = json!({
            "operationId": self.id,
            "summary": self.summary,
            "responses": self.responses(written),
            "security": self.needs.security(),
        });
        if !self.parameters.is_empty() {
            about["parameters"] = self.parameters.iter().map(Parameter::described).collect();
        }
        if let Some(body) = self.body {
            about["requestBody"] = json!({
                "required": true,
                "content": { "application/json": { "schema": body(read) } },
            });
        }
        if let Needs::Token(role) = self.needs {
            about["x-role"] = dto::Role::from(role).to_string().into();
        }
        about
    }

    fn responses(&self, written: &mut SchemaGenerator) -> Value {
        let mut responses = Map::new();
        for Reply { status, about, kind, content } in &self.replies {
            let status = responses.entry(status.as_str()).or_insert_with(|| json!({ "description": about }));
            status["content"][kind] = json!({ "schema": content(written) });
        }
        for status in self.problem_statuses() {
            let problem = json!({ "schema": written.subschema_for::<Problem>() });
            let reply =
                responses.entry(status.as_str()).or_insert_with(|| json!({ "description": meaning(status) }));
            reply["content"]["application/problem+json"] = problem;
        }
        Value::Object(responses)
    }

    /// The problems that it may reply with: its own, and those that come of who asks and how.
    fn problem_statuses(&self) -> Vec<StatusCode> {
        let mut all = vec![
            StatusCode::BAD_REQUEST,
            StatusCode::FORBIDDEN,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::MISDIRECTED_REQUEST,
        ];
        if self.needs != Needs::Nothing {
            all.push(StatusCode::UNAUTHORIZED);
        }
        all.extend(&self.problems);
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Delete => "delete",
        }
    }
}

impl Needs {
    /// An empty object among the requirements: it is allowed without a token.
    fn security(self) -> Value {
        match self {
            Self::Nothing => json!([]),
            Self::Read => json!([{}, { "token": [] }]),
            Self::Token(_) => json!([{ "token": [] }]),
        }
    }
}

impl Parameter {
    fn described(&self) -> Value {
        let (place, is_required) = match self.place {
            Place::Query { is_required } => ("query", is_required),
            Place::Path => ("path", true),
            Place::Header => ("header", false),
        };
        let schema = if self.is_repeated {
            json!({ "type": "array", "items": { "type": "string" } })
        } else {
            json!({ "type": "string" })
        };
        json!({
            "name": self.name,
            "in": place,
            "required": is_required,
            "description": self.about,
            "schema": schema,
        })
    }
}

/// What a problem with this status means, whichever operation has it.
fn meaning(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The request makes no sense: the detail says what is wrong.",
        StatusCode::UNAUTHORIZED => "It needs a token, or the token is not valid.",
        StatusCode::FORBIDDEN => "The token has a lesser role, or a page of another site asks.",
        StatusCode::NOT_FOUND => "There is no such thing.",
        StatusCode::REQUEST_TIMEOUT => "The body did not arrive in time.",
        StatusCode::CONFLICT => {
            "It cannot be done now; if a safety rule forbids it, `type` is urn:portolan:refused-by-safety."
        }
        StatusCode::PAYLOAD_TOO_LARGE => "The body is too large.",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The body is not JSON.",
        StatusCode::MISDIRECTED_REQUEST => "The Host is not a name of this node.",
        StatusCode::UNPROCESSABLE_ENTITY => "The config has mistakes: the detail lists them.",
        StatusCode::SERVICE_UNAVAILABLE => {
            "The node cannot answer now; if its engine does not, `type` is urn:portolan:no-answer."
        }
        _ => "It failed: the detail says why.",
    }
}

/// How schemas are written: those of the document are all in one place.
fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    })
}

/// The document.
fn document() -> Value {
    let mut written = settings().for_serialize().into_generator();
    let mut read = settings().for_deserialize().into_generator();
    let mut paths = Map::new();
    for (operation, _) in operations() {
        // The router marks parts of the path that may have slashes.
        let path = paths.entry(operation.path.replace("{*", "{")).or_insert_with(|| json!({}));
        path[operation.method.name()] = operation.described(&mut written, &mut read);
    }
    let mut schemas = written.take_definitions(true);
    for (name, schema) in read.take_definitions(true) {
        let known = schemas.entry(name).or_insert_with(|| schema.clone());
        debug_assert_eq!(*known, schema, "a type that is both read and written has one schema");
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portolan",
            "summary": "The control API of a node",
            "description": "Fields are added, never renamed: ignore those that you do not know. Times are RFC 3339 in \
                            UTC. Errors are problem documents (RFC 9457). Over the control socket everything is \
                            allowed; `x-role` is the least role of a token that an operation needs over TCP.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This node" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `[control] token`. Reads need none unless `read = \"token\"` is set.",
                },
            },
        },
    })
}

/// `GET /v1/openapi.json`
pub(super) async fn get() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}
