"""Models of scikit-learn, XGBoost and LightGBM, exported as their users do."""

import lightgbm
import numpy as np
import onnx
import onnxmltools
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as MlFloat
from skl2onnx import to_onnx
from skl2onnx.common.data_types import (
    DictionaryType, DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType)
from sklearn import datasets, ensemble, linear_model, neighbors, svm
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction import DictVectorizer
from sklearn.impute import SimpleImputer
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from fixture import record

# onnx refuses the numpy scalars and booleans that some converters put into lists of attributes.
make_attribute = onnx.helper.make_attribute


def plain(key, value, *rest, **more):
    if isinstance(value, (list, tuple, np.ndarray)):
        value = [item.item() if isinstance(item, np.generic) else item for item in value]
        value = [int(item) if isinstance(item, bool) else item for item in value]
    return make_attribute(key, value, *rest, **more)


onnx.helper.make_attribute = plain

GROUP = "exported"
ROWS = 21
NO_MAP = {"zipmap": False}


def sample(x, dtype=np.float32):
    return x[:: max(1, len(x) // ROWS)][:ROWS].astype(dtype)


def keep(name, model, x, options=None, dtype=np.float32, tolerance=None):
    kind = DoubleTensorType if dtype == np.float64 else FloatTensorType
    graph = to_onnx(
        model, initial_types=[("features", kind([None, x.shape[1]]))],
        options={id(model): options} if options else None, target_opset={"": 18, "ai.onnx.ml": 3})
    return record(GROUP, name, graph, {"features": sample(x, dtype)}, tolerance)


def classifiers():
    x3, y3 = datasets.load_iris(return_X_y=True)
    x2, y2 = datasets.load_breast_cancer(return_X_y=True)
    x2 = x2[:, :10]
    words = np.array(["setosa", "versicolor", "virginica"])[y3]
    small = dict(n_estimators=10, max_depth=5, random_state=0)
    keep("forest", ensemble.RandomForestClassifier(**small).fit(x3, y3), x3, NO_MAP)
    keep("forest_binary", ensemble.RandomForestClassifier(**small).fit(x2, y2), x2, NO_MAP)
    keep("forest_names_zipmap", ensemble.RandomForestClassifier(**small).fit(x3, words), x3)
    keep("forest_zipmap", ensemble.RandomForestClassifier(**small).fit(x3, y3), x3)
    keep("forest_double", ensemble.RandomForestClassifier(**small).fit(x3, y3), x3, NO_MAP, np.float64)
    keep("tree_deep", DecisionTreeClassifier(random_state=0).fit(x2, y2), x2, NO_MAP)
    keep("extra_trees", ensemble.ExtraTreesClassifier(**small).fit(x3, words), x3, NO_MAP)
    keep("boosting", ensemble.GradientBoostingClassifier(n_estimators=8, random_state=0).fit(x3, y3), x3, NO_MAP)
    keep("boosting_binary", ensemble.GradientBoostingClassifier(n_estimators=8, random_state=0).fit(x2, y2), x2, NO_MAP)
    keep("ada_boost", ensemble.AdaBoostClassifier(n_estimators=5, random_state=0).fit(x3, y3), x3, NO_MAP)
    keep("voting", ensemble.VotingClassifier([
        ("a", linear_model.LogisticRegression(max_iter=500)), ("b", DecisionTreeClassifier(max_depth=3))],
        voting="soft", flatten_transform=False).fit(x3, y3), x3, NO_MAP)
    holes = x2.copy()
    holes[::3, 2] = np.nan
    histogram = ensemble.HistGradientBoostingClassifier(max_iter=10, max_leaf_nodes=12, random_state=0)
    keep("histogram_nan", histogram.fit(holes, y2), holes, NO_MAP)
    keep("logistic", linear_model.LogisticRegression(max_iter=500).fit(x3, y3), x3, NO_MAP)
    keep("logistic_binary_names", linear_model.LogisticRegression(max_iter=5000).fit(x2, np.array(["bad", "good"])[y2]), x2, NO_MAP)
    keep("ridge_classifier", linear_model.RidgeClassifier().fit(x3, y3), x3, NO_MAP)
    keep("sgd", linear_model.SGDClassifier(loss="modified_huber", random_state=0).fit(x3, y3), x3, NO_MAP)
    keep("bayes", GaussianNB().fit(x3, y3), x3, NO_MAP, tolerance={"abs": 1e-4, "rel": 1e-4})
    keep("mlp", MLPClassifier([8], max_iter=300, random_state=0).fit(x3, y3), x3, NO_MAP)
    keep("neighbours", neighbors.KNeighborsClassifier(3).fit(x3[::3], y3[::3]), x3, NO_MAP)
    rough = {"abs": 1e-4, "rel": 1e-4}
    keep("svc_rbf_probability", svm.SVC(probability=True, random_state=0).fit(x3, y3), x3, NO_MAP, tolerance=rough)
    keep("svc_binary_probability", svm.SVC(probability=True, random_state=0).fit(x2, y2), x2, NO_MAP, tolerance=rough)
    keep("svc_poly", svm.SVC(kernel="poly", degree=2).fit(x3, words), x3, NO_MAP, tolerance=rough)
    keep("svc_sigmoid_binary", svm.SVC(kernel="sigmoid").fit(x2 / x2.max(axis=0), y2), x2 / x2.max(axis=0), NO_MAP, tolerance=rough)
    keep("svc_linear", svm.SVC(kernel="linear").fit(x3, y3), x3, NO_MAP, tolerance=rough)
    keep("linear_svc", svm.LinearSVC().fit(x3, y3), x3)
    boosted("xgboost", xgboost.XGBClassifier(n_estimators=6, max_depth=3), x3, y3)
    boosted("xgboost_binary", xgboost.XGBClassifier(n_estimators=8, max_depth=3), x2, y2)
    boosted("xgboost_nan", xgboost.XGBClassifier(n_estimators=8, max_depth=3), holes, y2)
    boosted("lightgbm", lightgbm.LGBMClassifier(n_estimators=6, num_leaves=8, verbose=-1), x3, y3)
    boosted("lightgbm_binary_nan", lightgbm.LGBMClassifier(n_estimators=8, num_leaves=8, verbose=-1), holes, y2)


def boosted(name, model, x, y, tolerance=None):
    """By onnxmltools' converters."""
    model.fit(x.astype(np.float32), y)
    kinds = [("features", MlFloat([None, x.shape[1]]))]
    if isinstance(model, xgboost.XGBModel):
        graph = onnxmltools.convert_xgboost(model, initial_types=kinds, target_opset=15)
    else:
        graph = onnxmltools.convert_lightgbm(model, initial_types=kinds, target_opset=15, zipmap=False)
    return record(GROUP, name, graph, {"features": sample(x)}, tolerance)


def regressors():
    x, y = datasets.load_diabetes(return_X_y=True)
    near = {"abs": 1e-3, "rel": 1e-5}
    small = dict(n_estimators=8, max_depth=5, random_state=0)
    keep("forest_regressor", ensemble.RandomForestRegressor(**small).fit(x, y), x, tolerance=near)
    keep("forest_two_targets", ensemble.RandomForestRegressor(**small).fit(x, np.stack([y, -y], 1)), x, tolerance=near)
    keep("extra_trees_regressor", ensemble.ExtraTreesRegressor(**small).fit(x, y), x, tolerance=near)
    keep("boosting_regressor", ensemble.GradientBoostingRegressor(n_estimators=8).fit(x, y), x, tolerance=near)
    histogram = ensemble.HistGradientBoostingRegressor(max_iter=8, max_leaf_nodes=12)
    keep("histogram_regressor", histogram.fit(x, y), x, tolerance=near)
    keep("linear", linear_model.LinearRegression().fit(x, y), x, tolerance=near)
    keep("ridge_two_targets", linear_model.Ridge().fit(x, np.stack([y, -y], 1)), x, tolerance=near)
    keep("svr", svm.SVR(C=10).fit(x[::4], y[::4]), x, tolerance=near)
    keep("linear_svr", svm.LinearSVR().fit(x, y), x, tolerance=near)
    keep("one_class", svm.OneClassSVM(nu=0.1).fit(x[::4]), x, tolerance={"abs": 1e-4, "rel": 1e-4})
    keep("isolation_forest", ensemble.IsolationForest(n_estimators=6, random_state=0).fit(x), x)
    keep("k_means", KMeans(4, n_init=1, random_state=0).fit(x), x, tolerance=near)
    keep("neighbours_regressor", neighbors.KNeighborsRegressor(3).fit(x[::8], y[::8]), x, tolerance=near)
    boosted("xgboost_regressor", xgboost.XGBRegressor(n_estimators=6, max_depth=3), x, y, tolerance=near)
    boosted("lightgbm_regressor", lightgbm.LGBMRegressor(n_estimators=6, num_leaves=8, verbose=-1), x, y, tolerance=near)


def pipelines():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    x = x[:, :8].copy()
    x[::5, 1] = np.nan
    scaled = make_pipeline(SimpleImputer(), StandardScaler(), linear_model.LogisticRegression()).fit(x, y)
    keep("pipeline_imputer_scaler", scaled, x, NO_MAP)
    whole = np.nan_to_num(x)
    for name, step in [("min_max", MinMaxScaler()), ("normalizer", Normalizer()), ("normalizer_max", Normalizer("max")),
                       ("normalizer_l1", Normalizer("l1")), ("binarizer", Binarizer(threshold=0.1))]:
        chain = make_pipeline(step, linear_model.LogisticRegression(max_iter=5000)).fit(whole, y)
        keep(f"pipeline_{name}", chain, whole, NO_MAP)

    random = np.random.default_rng(0)
    count = 200
    frame = {
        "site": random.choice(["north", "south", "harbour"], count),
        "line": random.integers(0, 4, count),
        "temperature": random.normal(50, 9, count).astype(np.float32),
        "pressure": random.normal(2, 0.3, count).astype(np.float32),
    }
    wear = (frame["temperature"] > 52) ^ (frame["site"] == "harbour") ^ (frame["line"] == 2)
    chain = make_pipeline(
        ColumnTransformer([
            ("text", OneHotEncoder(handle_unknown="ignore"), [0]),
            ("line", OneHotEncoder(handle_unknown="ignore"), [1]),
            ("number", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), [2, 3])]),
        ensemble.RandomForestClassifier(n_estimators=6, max_depth=5, random_state=0))
    table = np.stack([frame[name].astype(object) for name in frame], 1)
    chain.fit(table, np.where(wear, "worn", "fine"))
    kinds = [("site", StringTensorType([None, 1])), ("line", Int64TensorType([None, 1])),
             ("temperature", FloatTensorType([None, 1])), ("pressure", FloatTensorType([None, 1]))]
    graph = to_onnx(chain, initial_types=kinds, options={id(chain): NO_MAP}, target_opset={"": 18, "ai.onnx.ml": 3})
    record(GROUP, "pipeline_columns", graph, {
        "site": frame["site"][:ROWS, None].astype(object), "line": frame["line"][:ROWS, None].astype(np.int64),
        "temperature": frame["temperature"][:ROWS, None], "pressure": frame["pressure"][:ROWS, None]})

    encoder = OrdinalEncoder().fit(frame["site"][:, None])
    graph = to_onnx(encoder, initial_types=[("site", StringTensorType([None, 1]))], target_opset={"": 18, "ai.onnx.ml": 3})
    record(GROUP, "ordinal_encoder", graph, {"site": frame["site"][:ROWS, None].astype(object)})


    records = [{"temperature": float(t), "pressure": float(p)} for t, p in zip(frame["temperature"], frame["pressure"])]
    chain = make_pipeline(DictVectorizer(sparse=False), DecisionTreeClassifier(max_depth=3)).fit(records, wear.astype(int))
    kinds = [("record", DictionaryType(StringTensorType([1]), FloatTensorType([1])))]
    graph = to_onnx(chain, initial_types=kinds, options={id(chain): NO_MAP}, target_opset={"": 18, "ai.onnx.ml": 3})
    order = list(chain[0].vocabulary_)
    record(GROUP, "dict_vectorizer", graph, {"record": np.array([[records[3][k] for k in sorted(order)]], np.float32)},
           fed={"record": records[3]})


def main():
    classifiers()
    regressors()
    pipelines()
