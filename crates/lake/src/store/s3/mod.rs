//! S3 and what speaks like it: settings from `AWS_*`, and answers sorted before object_store can retry them.
//!
//! object_store refreshes temporary credentials (web identity, task and instance roles) five minutes before they end;
//! keys given by themselves are used as they are.

mod answer;
mod http;

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
use url::Url;

pub(crate) use self::answer::{Answer, Class};
use self::http::Connector;
use crate::LakeError;

/// A request, its answer included: 32 MB of rows over a slow line take a while.
const TIMEOUT: &str = "60s";
const CONNECT_TIMEOUT: &str = "5s";
/// object_store tries again what may be repeated without thought; the rest, and longer outages, are the callers'.
const RETRIES_MAX: usize = 3;
const RETRY_TIME_MAX: Duration = Duration::from_secs(20);
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// A client for the URL's bucket; nothing is sent yet. Of the variables only `AWS_*` are looked at.
pub(crate) fn connect(url: &Url, variables: impl IntoIterator<Item = (String, String)>) -> Result<AmazonS3, LakeError> {
    let unfit = |error: object_store::Error| LakeError::location(url.as_str(), error.to_string());
    let bucket = url.host_str().unwrap_or_default();
    let mut builder = AmazonS3Builder::new()
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), TIMEOUT)
        .with_config(
            AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout),
            CONNECT_TIMEOUT,
        );
    for (name, value) in variables {
        if name.starts_with("AWS_")
            && !value.is_empty()
            && let Ok(key) = name.to_ascii_lowercase().parse()
        {
            builder = builder.with_config(key, value);
        }
    }
    let virtual_hosted = builder
        .get_config_value(&AmazonS3ConfigKey::VirtualHostedStyleRequest)
        .is_some_and(|value| value == "true");
    let connector = Connector {
        bucket: bucket.to_owned(),
        bucket_in_path: !virtual_hosted,
    };
    builder
        .with_bucket_name(bucket)
        .with_http_connector(connector)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: BACK_OFF_FIRST,
                max_backoff: BACK_OFF_MAX,
                base: 2.0,
            },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIME_MAX,
        })
        .build()
        .map_err(unfit)
}
