//! The values of the options: what is accepted, and how it is read.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{
    Error, LitInt, LitStr, Path, Result,
    parse::{Parse, ParseStream},
};

// How each option is written.
pub(crate) const FLAVOR: &str = r#"flavor = "multi_thread" | "current_thread""#;
pub(crate) const WORKER_THREADS: &str = "worker_threads = 4";
pub(crate) const EVENT_LOOP: &str = r#"event_loop = "asyncio" | "uvloop""#;
pub(crate) const TIMEOUT: &str = r#"timeout = "5s""#;
pub(crate) const CRATE: &str = "crate = path";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EventLoop {
    #[default]
    Asyncio,
    Uvloop,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flavor {
    #[default]
    MultiThread,
    CurrentThread,
}

impl ToTokens for Flavor {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(match self {
            Self::MultiThread => quote!(MultiThread),
            Self::CurrentThread => quote!(CurrentThread),
        });
    }
}

pub(crate) fn path(input: ParseStream<'_>) -> Result<Path> {
    let span = input.span();
    let path = input.call(Path::parse_mod_style);
    path.map_err(|_| Error::new(span, "expected a path without quotes: crate = my_crate::my_runtime"))
}

pub(crate) fn event_loop(input: ParseStream<'_>) -> Result<EventLoop> {
    let text: LitStr = expect(input, EVENT_LOOP)?;
    match text.value().as_str() {
        "asyncio" => Ok(EventLoop::Asyncio),
        "uvloop" => Ok(EventLoop::Uvloop),
        other => Err(Error::new(text.span(), format!("no event loop {other:?}; expected {EVENT_LOOP}"))),
    }
}

pub(crate) fn flavor(input: ParseStream<'_>) -> Result<Flavor> {
    let text: LitStr = expect(input, FLAVOR)?;
    match text.value().as_str() {
        "multi_thread" => Ok(Flavor::MultiThread),
        "current_thread" => Ok(Flavor::CurrentThread),
        other => Err(Error::new(text.span(), format!("no runtime flavor {other:?}; expected {FLAVOR}"))),
    }
}

pub(crate) fn worker_threads(input: ParseStream<'_>) -> Result<usize> {
    const EXPECTED: &str = "a number of threads, 1 or more: worker_threads = 4";
    let number: LitInt = expect(input, EXPECTED)?;
    match number.base10_parse() {
        Ok(threads) if threads > 0 => Ok(threads),
        _ => Err(Error::new(number.span(), format!("expected {EXPECTED}"))),
    }
}

pub(crate) fn timeout(input: ParseStream<'_>) -> Result<Duration> {
    const EXPECTED: &str = r#"a time longer than zero in ms, s or m: timeout = "5s""#;
    let text: LitStr = expect(input, EXPECTED)?;
    duration(&text.value()).ok_or_else(|| Error::new(text.span(), format!("expected {EXPECTED}")))
}

/// Reads a value, or says at the first token of what stands there which values there are.
fn expect<T: Parse>(input: ParseStream<'_>, form: &str) -> Result<T> {
    let span = input.span();
    input.parse().map_err(|_| Error::new(span, format!("expected {form}")))
}

/// The same notation as in the environment variable that the harness reads.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok().filter(|&number| number > 0)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}
