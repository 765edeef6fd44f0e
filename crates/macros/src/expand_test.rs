//! `#[test]`.

use std::mem;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, Expr, ExprLit, Ident, Lit, LitStr, Meta, MetaNameValue, Result, Token, ext::IdentExt as _,
    punctuated::Punctuated,
};

use crate::{
    adapter::Adapter,
    args::{Args, EntryPoint, Kind},
    function::{Function, beside},
};

const FORM: &str = "async fn name() -> PyResult<()> { ... }";

pub(crate) fn expand(adapter: Adapter, args: TokenStream, item: TokenStream) -> TokenStream {
    let mut function = match Function::parse(item.clone(), FORM) {
        Ok(function) => function,
        Err(error) => return beside(item, &error),
    };
    let entry_point = EntryPoint { adapter, kind: Kind::Test };
    let expectation = Expectation::take(&mut function.attrs);
    let checked = expectation.and_then(|expectation| {
        function.check(FORM)?;
        let args = entry_point.parse_args(args)?;
        check_runtime(&function, &args)?;
        Ok((expectation, args))
    });
    match checked {
        Ok((expectation, args)) => test(&function, &expectation, &args),
        Err(error) => beside(function, &error),
    }
}

/// What the attributes beside `#[test]` say.
#[derive(Default)]
struct Expectation {
    /// Present when the test is ignored, with the reason if there is one.
    ignore: Option<Option<LitStr>>,
    /// Present when the test should panic, with a part of the message if it matters.
    should_panic: Option<Option<LitStr>>,
}

impl Expectation {
    /// Takes the attributes that are the harness's, so that the compiler does not find them unused.
    fn take(attrs: &mut Vec<Attribute>) -> Result<Self> {
        let (ours, others): (Vec<_>, Vec<_>) = mem::take(attrs).into_iter().partition(is_ours);
        *attrs = others;
        let mut expectation = Self::default();
        for attr in &ours {
            expectation.add(attr)?;
        }
        Ok(expectation)
    }

    fn add(&mut self, attr: &Attribute) -> Result<()> {
        if attr.path().is_ident("ignore") {
            return set(&mut self.ignore, attr, ignore(&attr.meta)?);
        }
        if attr.path().is_ident("should_panic") {
            return set(&mut self.should_panic, attr, should_panic(&attr.meta)?);
        }
        Err(Error::new_spanned(attr, "a second `#[test]` would register the test twice; keep one"))
    }
}

fn is_ours(attr: &Attribute) -> bool {
    let path = attr.path();
    path.is_ident("ignore")
        || path.is_ident("should_panic")
        || path.segments.last().is_some_and(|last| last.ident == "test")
}

fn set<T>(slot: &mut Option<T>, attr: &Attribute, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => {
            let path = attr.path();
            Err(Error::new_spanned(attr, format!("`#[{}]` is given twice; keep one", quote!(#path))))
        }
    }
}

fn ignore(meta: &Meta) -> Result<Option<LitStr>> {
    let reason = match meta {
        Meta::Path(_) => return Ok(None),
        Meta::NameValue(meta) => text(&meta.value),
        Meta::List(_) => None,
    };
    reason.map(Some).ok_or_else(|| Error::new_spanned(meta, r#"expected #[ignore] or #[ignore = "why"]"#))
}

fn should_panic(meta: &Meta) -> Result<Option<LitStr>> {
    let expected = match meta {
        Meta::Path(_) => return Ok(None),
        Meta::NameValue(meta) => text(&meta.value),
        Meta::List(list) => {
            let arguments = list.parse_args_with(Punctuated::<MetaNameValue, Token![,]>::parse_terminated);
            match Vec::from_iter(arguments.unwrap_or_default()).as_slice() {
                [only] if only.path.is_ident("expected") => text(&only.value),
                _ => None,
            }
        }
    };
    let form = r#"expected #[should_panic] or #[should_panic(expected = "part of the message")]"#;
    expected.map(Some).ok_or_else(|| Error::new_spanned(meta, form))
}

fn text(value: &Expr) -> Option<LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.clone()),
        _ => None,
    }
}

fn check_runtime(function: &Function, args: &Args) -> Result<()> {
    match &args.runtime {
        Some(runtime) if function.sig.asyncness.is_none() => Err(Error::new(
            runtime.span,
            format!("a test that is not async runs on a thread of its own, without a runtime; make it async: {FORM}"),
        )),
        _ => Ok(()),
    }
}

fn test(function: &Function, expectation: &Expectation, args: &Args) -> TokenStream {
    let crate_path = &args.crate_path;
    let private = quote!(#crate_path::testing::private);
    let ident = &function.sig.ident;
    let name = ident.unraw().to_string();
    // Not the user's variable, nor a constant, which a pattern would take it for whatever its span.
    let start = Ident::new("__pyo3_await_start", Span::mixed_site());
    let body = if function.sig.asyncness.is_some() {
        let runtime = args.runtime("own_runtime");
        quote!(Async(|#start| #start.on(#runtime, #ident)))
    } else {
        quote!(Sync(|#start| #start.here(#ident)))
    };
    let body = function.at_output(body);
    let ignore = nested_option(expectation.ignore.as_ref());
    let should_panic = nested_option(expectation.should_panic.as_ref());
    let timeout = match args.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)) {
        Some(millis) => quote!(::core::option::Option::Some(::core::time::Duration::from_millis(#millis))),
        None => quote!(::core::option::Option::None),
    };
    let guard = format_ident!("{ident}_needs_harness_false");
    quote! {
        #function

        #private::register! {
            name: #name,
            ignore: #ignore,
            should_panic: #should_panic,
            timeout: #timeout,
            body: #body
        }

        // Rust's own harness does not run what is registered above, and silence would look like success.
        // Without that harness the compiler drops this function.
        #[doc(hidden)]
        #[::core::prelude::v1::test]
        fn #guard() {
            #private::wrong_harness(#name);
        }
    }
}

fn nested_option(value: Option<&Option<LitStr>>) -> TokenStream {
    match value {
        None => quote!(::core::option::Option::None),
        Some(None) => quote!(::core::option::Option::Some(::core::option::Option::None)),
        Some(Some(text)) => quote!(::core::option::Option::Some(::core::option::Option::Some(#text))),
    }
}
