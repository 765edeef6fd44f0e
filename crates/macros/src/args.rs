//! The options between an attribute's parentheses.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Error, Ident, Path, Result, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
};

use crate::{
    adapter::Adapter,
    values::{self, CRATE, EVENT_LOOP, EventLoop, FLAVOR, Flavor, TIMEOUT, WORKER_THREADS},
};

/// Which of the pair it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Main,
    Test,
}

/// The attribute as the user knows it, for messages: `#[pyo3_await_tokio::main]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryPoint {
    pub(crate) adapter: Adapter,
    pub(crate) kind: Kind,
}

/// The options, checked against each other.
pub(crate) struct Args {
    pub(crate) crate_path: Path,
    pub(crate) event_loop: EventLoop,
    /// Present when the runtime is to be another than the current one.
    pub(crate) runtime: Option<RuntimeArgs>,
    pub(crate) timeout: Option<Duration>,
}

pub(crate) struct RuntimeArgs {
    pub(crate) flavor: Flavor,
    pub(crate) worker_threads: Option<usize>,
    /// Where the first of these options stands.
    pub(crate) span: Span,
}

impl Args {
    /// The runtime of a program or a test, as an expression of type `PyResult<R>`.
    ///
    /// `shape` is the function in the adapter's `entry` module that takes the options.
    pub(crate) fn runtime(&self, shape: &str) -> TokenStream {
        let crate_path = &self.crate_path;
        match &self.runtime {
            None => quote!(#crate_path::current_runtime()),
            Some(RuntimeArgs { flavor, worker_threads, .. }) => {
                let shape = Ident::new(shape, Span::call_site());
                let threads = match worker_threads {
                    Some(threads) => quote!(::core::option::Option::Some(#threads)),
                    None => quote!(::core::option::Option::None),
                };
                quote!(#crate_path::entry::#shape(#crate_path::entry::Flavor::#flavor, #threads))
            }
        }
    }
}

impl EntryPoint {
    /// What stands before the options.
    pub(crate) fn path(self) -> String {
        let name = match self.kind {
            Kind::Main => "main",
            Kind::Test => "test",
        };
        format!("{}::{name}", self.adapter.name())
    }

    /// The options of this attribute, as they are written.
    fn forms(self) -> String {
        let mut forms = Vec::new();
        if self.adapter.has_flavors() {
            forms.extend([FLAVOR, WORKER_THREADS]);
        }
        forms.push(match self.kind {
            Kind::Main => EVENT_LOOP,
            Kind::Test => TIMEOUT,
        });
        forms.push(CRATE);
        forms.join(", ")
    }

    fn accepts(self, option: &str) -> bool {
        match option {
            "crate" => true,
            "flavor" | "worker_threads" => self.adapter.has_flavors(),
            "event_loop" => self.kind == Kind::Main,
            "timeout" => self.kind == Kind::Test,
            _ => false,
        }
    }

    pub(crate) fn parse_args(self, args: TokenStream) -> Result<Args> {
        (|input: ParseStream<'_>| Given::parse(self, input)?.check(self)).parse2(args)
    }
}

/// The options as they were given, each with the name that it was given by.
#[derive(Default)]
struct Given {
    crate_path: Option<(Ident, Path)>,
    event_loop: Option<(Ident, EventLoop)>,
    flavor: Option<(Ident, Flavor)>,
    worker_threads: Option<(Ident, usize)>,
    timeout: Option<(Ident, Duration)>,
}

impl Given {
    fn parse(entry_point: EntryPoint, input: ParseStream<'_>) -> Result<Self> {
        let mut given = Self::default();
        while !input.is_empty() {
            // `crate` is a keyword.
            let name = input.call(Ident::parse_any).map_err(|error| {
                Error::new(error.span(), format!("expected an option; accepted are {}", entry_point.forms()))
            })?;
            given.option(entry_point, name, input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(given)
    }

    fn option(&mut self, entry_point: EntryPoint, name: Ident, input: ParseStream<'_>) -> Result<()> {
        let option = name.to_string();
        if !entry_point.accepts(&option) {
            return Err(unknown(entry_point, &name));
        }
        if !input.peek(Token![=]) {
            let form = form(&option);
            return Err(Error::new(name.span(), format!("option `{name}` needs a value: {form}")));
        }
        input.parse::<Token![=]>()?;
        match option.as_str() {
            "crate" => set(&mut self.crate_path, name, values::path(input)?),
            "event_loop" => set(&mut self.event_loop, name, values::event_loop(input)?),
            "flavor" => set(&mut self.flavor, name, values::flavor(input)?),
            "worker_threads" => set(&mut self.worker_threads, name, values::worker_threads(input)?),
            _ => set(&mut self.timeout, name, values::timeout(input)?),
        }
    }

    fn check(self, entry_point: EntryPoint) -> Result<Args> {
        if let (Some((_, Flavor::CurrentThread)), Some((name, _))) = (&self.flavor, &self.worker_threads) {
            return Err(Error::new(
                name.span(),
                r#"`worker_threads` needs flavor = "multi_thread"; a current-thread runtime has one thread"#,
            ));
        }
        let crate_path = match self.crate_path {
            Some((_, path)) => path,
            None => entry_point.adapter.default_path().ok_or_else(|| {
                let path = entry_point.path();
                Error::new(
                    Span::call_site(),
                    format!("which runtime? name the module that `adapter!` filled: #[{path}(crate = my_runtime)]"),
                )
            })?,
        };
        let span = self.flavor.iter().map(|(name, _)| name.span());
        let span = span.chain(self.worker_threads.iter().map(|(name, _)| name.span())).next();
        Ok(Args {
            crate_path,
            event_loop: value(self.event_loop).unwrap_or_default(),
            runtime: span.map(|span| RuntimeArgs {
                flavor: value(self.flavor).unwrap_or_default(),
                worker_threads: value(self.worker_threads),
                span,
            }),
            timeout: value(self.timeout),
        })
    }
}

fn unknown(entry_point: EntryPoint, name: &Ident) -> Error {
    let path = entry_point.path();
    let forms = entry_point.forms();
    let why = match name.to_string().as_str() {
        "event_loop" => "; it belongs on `#[main]`, whose event loop all tests of the program share",
        "timeout" => "; it belongs on `#[test]`",
        "flavor" | "worker_threads" => entry_point.adapter.shaped_otherwise(),
        _ => "",
    };
    Error::new(name.span(), format!("`{path}` has no option `{name}`{why}; accepted are {forms}"))
}

fn form(option: &str) -> &'static str {
    match option {
        "crate" => CRATE,
        "event_loop" => EVENT_LOOP,
        "flavor" => FLAVOR,
        "worker_threads" => WORKER_THREADS,
        _ => TIMEOUT,
    }
}

fn set<T>(slot: &mut Option<(Ident, T)>, name: Ident, value: T) -> Result<()> {
    if slot.is_some() {
        return Err(Error::new(name.span(), format!("option `{name}` is given twice; keep one")));
    }
    *slot = Some((name, value));
    Ok(())
}

fn value<T>(slot: Option<(Ident, T)>) -> Option<T> {
    slot.map(|(_, value)| value)
}
