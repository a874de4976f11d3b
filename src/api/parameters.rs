//! Query parameters. A name that a path does not know is an error: it is probably misspelt.

use axum::extract::{Query, Request};
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::problem::Problem;

/// The values of the parameters `names`, in this order.
///
/// # Errors
/// If the query has another one, or one of them twice.
pub(super) fn parameters<const N: usize>(
    uri: &Uri,
    names: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    read(uri, names, None).map(|(values, _)| values)
}

/// The same, and all values of one that may be repeated.
///
/// # Errors
/// The same.
pub(super) fn parameters_and_all<const N: usize>(
    uri: &Uri,
    names: [&str; N],
    repeated: &str,
) -> Result<([Option<String>; N], Vec<String>), Problem> {
    read(uri, names, Some(repeated))
}

/// Whether the query has this parameter.
pub(super) fn has(uri: &Uri, name: &str) -> bool {
    pairs(uri).is_ok_and(|pairs| pairs.iter().any(|(known, _)| known == name))
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let pairs = Query::try_from_uri(uri).map_err(|e| Problem::bad_request(e.body_text()))?;
    Ok(pairs.0)
}

fn read<const N: usize>(
    uri: &Uri,
    names: [&str; N],
    repeated: Option<&str>,
) -> Result<([Option<String>; N], Vec<String>), Problem> {
    let mut values = [const { None }; N];
    let mut all = Vec::new();
    for (name, value) in pairs(uri)? {
        if Some(name.as_str()) == repeated {
            all.push(value);
            continue;
        }
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(Problem::bad_request(format!(
                "unknown query parameter `{name}`: this path takes {}",
                taken(names.into_iter().chain(repeated))
            )));
        };
        if values[place].replace(value).is_some() {
            return Err(Problem::bad_request(format!("the query parameter `{name}` is there twice")));
        }
    }
    Ok((values, all))
}

/// For paths without parameters.
pub(super) async fn none(request: Request, next: Next) -> Response {
    match parameters(request.uri(), []) {
        Ok([]) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn taken<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no query parameters".into() } else { listed(&names) }
}

/// "a, b and c"
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
