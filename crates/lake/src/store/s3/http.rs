//! The HTTP client below object_store's S3 client.
//!
//! object_store hides what matters to a commit: it retries a conditional PUT whose first try may have been done, calls
//! 409 and 412 the same, and drops the status of a denied listing. Here answers become [`Answer`]s before it sees them.

use async_trait::async_trait;
use metrics::counter;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::path::Path;

use super::{Answer, Class};

/// Makes clients that know what the bucket's requests mean.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    pub(super) bucket: String,
    /// Path style: the bucket is the path's first part. Otherwise it stands in the host's name.
    pub(super) bucket_in_path: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        let connector = self.clone();
        Ok(HttpClient::new(SortedHttp { inner, connector }))
    }
}

#[derive(Debug)]
struct SortedHttp {
    inner: HttpClient,
    connector: Connector,
}

#[async_trait]
impl HttpService for SortedHttp {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(asked) = self.connector.asked(&request) else {
            return self.inner.execute(request).await;
        };
        let conditional = request.headers().contains_key("if-none-match") && request.method().as_str() == "PUT";
        let answered = self.inner.execute(request).await;
        let outcome = |outcome: &'static str| {
            counter!("smartcity_lake_requests_total", "action" => asked.action, "outcome" => outcome).increment(1);
        };
        let response = match answered {
            Ok(response) => response,
            Err(error) => {
                outcome("no_answer");
                // It may have been done. Only who reads the log back may ask again.
                return Err(match conditional {
                    true => HttpError::new(HttpErrorKind::Unknown, error),
                    false => error,
                });
            }
        };
        let status = response.status().as_u16();
        match status {
            200..=299 | 304 => {
                outcome("done");
                return Ok(response);
            }
            412 => {
                outcome("taken");
                return Ok(response);
            }
            _ => {}
        }
        let (parts, body) = response.into_parts();
        let body = body.bytes().await?;
        let answer = Answer::new(asked.action, asked.resource, status, &String::from_utf8_lossy(&body));
        let class = answer.class();
        outcome(match (status, class) {
            (404, Class::Refused) => "not_found",
            (_, Class::Transient) => "transient",
            (_, Class::Contended) => "contended",
            (_, Class::Denied) => "denied",
            _ => "refused",
        });
        let kind = match class {
            // object_store's own: an object that is not there, and what it may try again.
            Class::Refused if status == 404 => None,
            Class::Transient if !conditional && status != 400 => None,
            Class::Contended if !conditional => None,
            Class::Transient if !conditional => Some(HttpErrorKind::Interrupted),
            _ => Some(HttpErrorKind::Unknown),
        };
        match kind {
            None => Ok(HttpResponse::from_parts(parts, body.into())),
            Some(kind) => Err(HttpError::new(kind, answer)),
        }
    }
}

struct Asked {
    action: &'static str,
    resource: String,
}

impl Connector {
    /// What a request means, as IAM names it. `None` for those that fetch credentials from the machine, which pass
    /// through here too and are object_store's alone.
    fn asked(&self, request: &HttpRequest) -> Option<Asked> {
        let uri = request.uri();
        let query = uri.query().unwrap_or_default();
        let parameter = |name: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        if parameter("Action") == Some("AssumeRoleWithWebIdentity") {
            let role = parameter("RoleArn").unwrap_or_default();
            return Some(Asked {
                action: "sts:AssumeRoleWithWebIdentity",
                resource: role.replace("%3A", ":").replace("%2F", "/"),
            });
        }
        let authorization = request.headers().get("authorization")?;
        if !authorization.as_bytes().starts_with(b"AWS4-") {
            return None;
        }
        let key = self.key(uri.path());
        let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
        let action = match request.method().as_str() {
            "PUT" => "s3:PutObject",
            "POST" if has("delete") => "s3:DeleteObject",
            "POST" => "s3:PutObject",
            "DELETE" if has("uploadId") => "s3:AbortMultipartUpload",
            "DELETE" => "s3:DeleteObject",
            _ if key.is_empty() => "s3:ListBucket",
            _ => "s3:GetObject",
        };
        let mut resource = format!("arn:aws:s3:::{}", self.bucket);
        if !key.is_empty() {
            resource.push('/');
            resource.push_str(&key);
        }
        Some(Asked { action, resource })
    }

    fn key(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        let key = match self.bucket_in_path {
            true => path.strip_prefix(&self.bucket).unwrap_or(path),
            false => path,
        };
        let key = key.trim_start_matches('/');
        Path::from_url_path(key).map_or_else(|_| key.to_owned(), String::from)
    }
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpRequestBody;

    use super::*;

    fn asked(method: &str, uri: &str, bucket_in_path: bool) -> (&'static str, String) {
        let connector = Connector {
            bucket: "city".to_owned(),
            bucket_in_path,
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = uri.parse().unwrap();
        let signature = "AWS4-HMAC-SHA256 Credential=k".parse().unwrap();
        request.headers_mut().insert("authorization", signature);
        let asked = connector.asked(&request).unwrap();
        (asked.action, asked.resource)
    }

    #[test]
    fn requests_have_the_names_of_policies() {
        for (method, uri, action, resource) in [
            (
                "PUT",
                "http://h/city/lake/a%20b.json",
                "s3:PutObject",
                "arn:aws:s3:::city/lake/a b.json",
            ),
            ("POST", "http://h/city/k?uploads", "s3:PutObject", "arn:aws:s3:::city/k"),
            ("POST", "http://h/city?delete", "s3:DeleteObject", "arn:aws:s3:::city"),
            (
                "GET",
                "http://h/city?list-type=2&prefix=lake",
                "s3:ListBucket",
                "arn:aws:s3:::city",
            ),
            ("HEAD", "http://h/city/k", "s3:GetObject", "arn:aws:s3:::city/k"),
            (
                "DELETE",
                "http://h/city/k?uploadId=1",
                "s3:AbortMultipartUpload",
                "arn:aws:s3:::city/k",
            ),
        ] {
            assert_eq!(
                asked(method, uri, true),
                (action, resource.to_owned()),
                "{method} {uri}"
            );
        }
        let virtual_hosted = asked("GET", "http://city.h/city/k", false);
        assert_eq!(virtual_hosted, ("s3:GetObject", "arn:aws:s3:::city/city/k".to_owned()));
        let sts = "https://sts.h/?Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&WebIdentityToken=s";
        assert_eq!(
            asked("POST", sts, true),
            ("sts:AssumeRoleWithWebIdentity", "arn:aws:iam::1:role/r".to_owned())
        );
    }
}
