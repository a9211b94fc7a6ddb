//! The implementations.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, GenericParam, Generics, Index, Path, Result, Type, parse_quote};

use crate::attributes::{ColumnField, Container, columns};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Container { table, krate } = Container::of(input)?;
    let columns = columns(input)?;
    let ident = &input.ident;

    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let declared = columns.iter().map(|column| declare(column, &krate));
    let row = quote! {
        #[automatically_derived]
        impl #impl_generics #krate::BulkRow for #ident #type_generics #where_clause {
            fn table() -> #krate::Table {
                #krate::Table::new(#table) #(.column(#declared))*
            }
        }
    };

    let types: Vec<&Type> = columns.iter().map(|column| column.ty).collect();
    let generics = for_any_database(input, &types, &krate);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let fields = columns.iter().map(|column| column.ident);
    let key_cmp = key_cmp(&columns, &krate);
    let keyed = keyed(input, &columns, &krate);
    let db = format_ident!("__DB");
    Ok(quote! {
        #row

        #[automatically_derived]
        impl #impl_generics #krate::BulkValues<#db> for #ident #type_generics #where_clause {
            fn values<__S: #krate::ValueSink<#db>>(
                &self,
                __sink: &mut __S,
            ) -> ::core::result::Result<(), #krate::__private::BoxDynError> {
                #(__sink.push(&self.#fields)?;)*
                ::core::result::Result::Ok(())
            }

            #key_cmp
        }

        #keyed
    })
}

/// The implementations for rows that can be found by their key.
fn keyed(input: &DeriveInput, columns: &[ColumnField<'_>], krate: &Path) -> TokenStream {
    let keys: Vec<_> = columns.iter().filter(|column| column.key).collect();
    let types: Vec<&Type> = keys.iter().map(|column| column.ty).collect();
    let (key, fields) = match *types {
        [] => return TokenStream::new(),
        [ty] => (quote!(#ty), vec![quote!(__key)]),
        _ => {
            let fields = (0..types.len()).map(Index::from);
            (
                quote!((#(#types),*)),
                fields.map(|at| quote!(&__key.#at)).collect(),
            )
        }
    };
    let ident = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    let declared = quote! {
        #[automatically_derived]
        impl #impl_generics #krate::BulkKey for #ident #type_generics #where_clause {
            type Key = #key;
        }
    };
    let generics = for_any_database(input, &types, krate);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    quote! {
        #declared

        #[automatically_derived]
        impl #impl_generics #krate::BulkKeyValues<__DB> for #ident #type_generics #where_clause {
            fn key_values<__S: #krate::ValueSink<__DB>>(
                __key: &Self::Key,
                __sink: &mut __S,
            ) -> ::core::result::Result<(), #krate::__private::BoxDynError> {
                #(__sink.push(#fields)?;)*
                ::core::result::Result::Ok(())
            }
        }
    }
}

/// The struct's generics with a database that can encode the types, so that the output is the same
/// whichever databases are switched on.
fn for_any_database(input: &DeriveInput, types: &[&Type], krate: &Path) -> Generics {
    let db = format_ident!("__DB");
    let mut generics = input.generics.clone();
    let param: GenericParam = parse_quote!(#db: #krate::__private::Database);
    generics.params.push(param);
    let mut bounded: Vec<&Type> = Vec::new();
    for ty in types {
        if !bounded.contains(ty) {
            bounded.push(ty);
        }
    }
    let bounds = generics.make_where_clause();
    for ty in bounded {
        bounds.predicates.push(parse_quote! {
            #ty: for<'__q> #krate::__private::Encode<'__q, #db>
                + #krate::__private::Type<#db>
        });
    }
    generics
}

fn declare(column: &ColumnField<'_>, krate: &Path) -> TokenStream {
    let name = &column.name;
    let key = column.key.then(|| quote!(.key()));
    let pg_type = column.pg_type.as_ref().map(|ty| quote!(.pg_type(#ty)));
    quote!(#krate::Column::new(#name) #key #pg_type)
}

fn key_cmp(columns: &[ColumnField<'_>], krate: &Path) -> TokenStream {
    let keys = || columns.iter().filter(|column| column.key);
    if keys().next().is_none() {
        return TokenStream::new();
    }
    let fields = keys().map(|column| column.ident);
    // The span puts the error for a type without an order at the field.
    let compare = keys().map(|column| {
        let field = column.ident;
        quote_spanned! { column.ty.span() =>
            .then_with(|| ::core::cmp::Ord::cmp(&self.#field, &__other.#field))
        }
    });
    // Which key is an Option is up to the compiler: by its tokens, an alias of one is not.
    quote! {
        fn key_cmp(&self, __other: &Self) -> ::core::option::Option<::core::cmp::Ordering> {
            use #krate::__private::{AnyKey as _, Key, OptionKey as _};
            #(
                if (&Key(&self.#fields)).is_null() || (&Key(&__other.#fields)).is_null() {
                    return ::core::option::Option::None;
                }
            )*
            ::core::option::Option::Some(::core::cmp::Ordering::Equal #(#compare)*)
        }
    }
}
