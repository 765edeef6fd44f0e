//! The item that an attribute stands on.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Error, Result, ReturnType, Safety, Signature, Visibility,
    parse::{Parse, ParseStream},
    spanned::Spanned as _,
};

/// A function whose body is not looked at, so that an editor gets help inside one that does not parse yet.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: Group,
}

impl Function {
    /// `form` is how a right one looks.
    pub(crate) fn parse(item: TokenStream, form: &str) -> Result<Self> {
        syn::parse2(item).map_err(|error| Error::new(error.span(), format!("expected a function: {form}")))
    }

    /// What no entry point can have: the harness or the process calls it with nothing in hand.
    pub(crate) fn check(&self, form: &str) -> Result<()> {
        let Signature { generics, inputs, variadic, safety, abi, .. } = &self.sig;
        if let Some(receiver) = self.sig.receiver() {
            let message = format!("nobody has a `self` here; expected a free function: {form}");
            return Err(Error::new_spanned(receiver, message));
        }
        if !generics.params.is_empty() {
            return Err(Error::new_spanned(generics, format!("nobody can choose generic parameters here: {form}")));
        }
        if let Some(clause) = &generics.where_clause {
            return Err(Error::new_spanned(clause, format!("nothing can depend on a `where` clause here: {form}")));
        }
        if !inputs.is_empty() || variadic.is_some() {
            let arguments = quote!(#inputs #variadic);
            return Err(Error::new_spanned(arguments, format!("nobody can pass arguments here: {form}")));
        }
        if let Safety::Unsafe(token) = safety {
            return Err(Error::new_spanned(token, format!("nobody can vouch for an unsafe function here: {form}")));
        }
        if let Some(abi) = abi {
            return Err(Error::new_spanned(abi, format!("nobody calls from another language here: {form}")));
        }
        Ok(())
    }

    /// The call of the function, placed where it says what it returns: an output that is not accepted is reported
    /// there.
    pub(crate) fn at_output(&self, call: TokenStream) -> TokenStream {
        let span = match &self.sig.output {
            ReturnType::Default => self.sig.ident.span(),
            ReturnType::Type(_, output) => output.span(),
        };
        located_at(call, span)
    }

    pub(crate) fn require_async(&self, form: &str) -> Result<()> {
        match &self.sig.asyncness {
            Some(_) => Ok(()),
            None => Err(Error::new_spanned(self.sig.fn_token, format!("the function has to be async: {form}"))),
        }
    }
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let sig = input.parse()?;
        match input.parse()? {
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => Ok(Self { attrs, vis, sig, body }),
            other => Err(Error::new(other.span(), "expected a body")),
        }
    }
}

/// The function as it was written.
impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body } = self;
        tokens.extend(quote!(#(#attrs)* #vis #sig #body));
    }
}

/// Moves tokens to where `span` is; what their names mean stays as it is.
fn located_at(tokens: TokenStream, span: Span) -> TokenStream {
    let located = tokens.into_iter().map(|mut token| {
        if let TokenTree::Group(group) = &token {
            token = Group::new(group.delimiter(), located_at(group.stream(), span)).into();
        }
        token.set_span(token.span().located_at(span));
        token
    });
    located.collect()
}

/// The item, and the error beside it: without the item an editor would report everything that refers to it, too.
pub(crate) fn beside(item: impl ToTokens, error: &Error) -> TokenStream {
    let error = error.to_compile_error();
    quote!(#item #error)
}
