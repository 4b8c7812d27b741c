//! The whole `ai.onnx.ml` operator set for tract: what scikit-learn, XGBoost and LightGBM export.
//!
//! [`register`] puts the operators into tract's register, in place of the few that tract has of its own. The room knows
//! tract and nothing else of this program, so that it can be offered upstream as it is.
//!
//! - Attributes are checked when the graph is read: lengths, places, circles in trees, NaN, sizes that memory would be
//!   taken by. A run then cannot fail but by its inputs. Errors name node, operator and attribute.
//! - Shapes are inferred with symbols: a batch may be open.
//! - Where the specification is silent the answer is ONNX Runtime's.
//! - tract has no maps: see [`maps_as_rows`] and [`register`] for `ZipMap`, `DictVectorizer` and `CastMap`.

pub(super) mod attributes;
mod categories;
mod classes;
mod columns;
mod coupling;
pub(super) mod kernel;
mod linear;
mod maps;
mod post;
mod real;
mod rows;
mod scalars;
mod scale;
mod svm;
mod tree;

#[cfg(test)]
pub(crate) mod cases;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod tests;

pub use classes::classes;
pub use maps::maps_as_rows;

use kernel::build;
use tract_onnx::model::OnnxOpRegister;

/// Adds every operator of the domain, versions 1 to 5. `ZipMap` gives the tensor of scores as it is, one column per class.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("ArrayFeatureExtractor", build::<columns::ArrayFeatureExtractor>);
    operators.insert("Binarizer", build::<scale::Binarizer>);
    operators.insert("CastMap", build::<maps::CastMap>);
    operators.insert("CategoryMapper", build::<categories::CategoryMapper>);
    operators.insert("DictVectorizer", build::<maps::DictVectorizer>);
    operators.insert("FeatureVectorizer", build::<columns::FeatureVectorizer>);
    operators.insert("Imputer", build::<scale::Imputer>);
    operators.insert("LabelEncoder", build::<categories::LabelEncoder>);
    operators.insert("LinearClassifier", build::<linear::LinearClassifier>);
    operators.insert("LinearRegressor", build::<linear::LinearRegressor>);
    operators.insert("Normalizer", build::<scale::Normalizer>);
    operators.insert("OneHotEncoder", build::<categories::OneHotEncoder>);
    operators.insert("Scaler", build::<scale::Scaler>);
    operators.insert("SVMClassifier", build::<svm::SvmClassifier>);
    operators.insert("SVMRegressor", build::<svm::SvmRegressor>);
    operators.insert("TreeEnsemble", build::<tree::TreeEnsemble>);
    operators.insert("TreeEnsembleClassifier", build::<tree::TreeEnsembleClassifier>);
    operators.insert("TreeEnsembleRegressor", build::<tree::TreeEnsembleRegressor>);
    operators.insert("ZipMap", build::<maps::ZipMap>);
}
