//! Tells a key field that holds a NULL, for the derive's output.
//!
//! `(&Key(&field)).is_null()` finds [`OptionKey`] first, which only an `Option` has, and
//! [`AnyKey`], one reference further, for all other types. An alias of `Option` is one too.

/// A field of the key.
#[derive(Debug)]
pub struct Key<'a, T>(pub &'a T);

/// A field that may hold a NULL.
pub trait OptionKey {
    /// Whether it does.
    fn is_null(&self) -> bool;
}

impl<T> OptionKey for Key<'_, Option<T>> {
    fn is_null(&self) -> bool {
        self.0.is_none()
    }
}

/// Any field.
pub trait AnyKey {
    /// Never: it is no `Option`.
    fn is_null(&self) -> bool;
}

impl<T> AnyKey for &Key<'_, T> {
    fn is_null(&self) -> bool {
        false
    }
}
