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
    let pairs =
        Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|e| Problem::bad_request(e.body_text()))?;
    let mut values = [const { None }; N];
    for (name, value) in pairs.0 {
        let Some(place) = names.iter().position(|known| *known == name) else {
            return Err(Problem::bad_request(format!(
                "unknown query parameter `{name}`: this path takes {}",
                listed(&names)
            )));
        };
        if values[place].replace(value).is_some() {
            return Err(Problem::bad_request(format!("the query parameter `{name}` is there twice")));
        }
    }
    Ok(values)
}

/// For paths without parameters.
pub(super) async fn none(request: Request, next: Next) -> Response {
    match parameters(request.uri(), []) {
        Ok([]) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn listed(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "no query parameters".into(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
