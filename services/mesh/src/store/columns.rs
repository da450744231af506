//! Column types: what a row holds is what the rule speaks of, with no third shape between.

/// Declares an enum that is kept as text, each value under the name given to it.
///
/// ```
/// mesh::text_enum! {
///     /// How a product stands.
///     pub enum Status {
///         /// On sale.
///         Active = "ACTIVE",
///         /// Not sold any more.
///         Retired = "RETIRED",
///     }
/// }
/// assert_eq!(Status::Active.as_str(), "ACTIVE");
/// assert_eq!("RETIRED".parse(), Ok(Status::Retired));
/// ```
#[macro_export]
macro_rules! text_enum {
    ($(#[$doc:meta])* $visibility:vis enum $Name:ident { $($(#[$value_doc:meta])* $Value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, $crate::store::Column, $crate::serde::Serialize, $crate::serde::Deserialize)]
        #[serde(crate = "mesh::serde")]
        #[sea_orm(value_type = "String")]
        $visibility enum $Name {
            $($(#[$value_doc])* #[serde(rename = $text)] $Value,)+
        }

        impl $Name {
            /// The value as the store and the logs spell it.
            pub const fn as_str(self) -> &'static str {
                match self { $($Name::$Value => $text,)+ }
            }
        }

        impl ::std::fmt::Display for $Name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl ::std::str::FromStr for $Name {
            type Err = $crate::store::UnknownName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text { $($text => Ok($Name::$Value),)+ _ => Err($crate::store::UnknownName(text.to_owned())) }
            }
        }
    };
}

/// A text in the store that none of an enum's values goes by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a value of this column")]
pub struct UnknownName(pub String);
