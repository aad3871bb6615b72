#include "kernels/optimizer.h"

#include <deque>
#include <memory>

#include "bindings/arrays.h"

namespace narae {
namespace {

// Whether updates can take the product x^T dy by its factors.
template <class T>
bool are_factors(const py::array& x, const py::array& dy) {
  return has_dtype<T>(x) && has_dtype<T>(dy) && x.ndim() == 2 && dy.ndim() == 2 &&
         x.shape(0) == dy.shape(0) && x.shape(0) <= kFactorTerms<T> && x.shape(1) >= kFactorRows &&
         dy.shape(1) >= kFactorColumns;
}

// The arrays of one group of variables, in the order that ops/optimizer.py gives them.
template <class T>
class Group {
 public:
  Group(py::array& w, const py::array& layout, const py::list& gradients, const py::list& slots,
        const py::array& hyper, const py::array& learning_rate, const py::array& iteration,
        std::int64_t every, const py::object& scale, const py::object& product)
      : w_("optimizer", "w", w),
        layout_("optimizer", "layout", layout),
        hyper_("optimizer", "hyper", hyper),
        learning_rate_("optimizer", "learning_rate", learning_rate),
        iteration_("optimizer", "iteration", iteration),
        scale_("optimizer", "scale", scale),
        pointers_(std::make_shared<std::vector<const T*>>()),
        factors_(std::make_shared<std::vector<Factors<T>>>()) {
    check_layout_rows();
    add_gradients(gradients);
    args = {w_.size(),
            static_cast<std::int64_t>(pointers_->size()),
            layout_.data(),
            pointers_->data(),
            factors_->data(),
            scale_.data(),
            w_.data(),
            {},
            nullptr,
            hyper_.data(),
            learning_rate_.data(),
            iteration_.data(),
            every};
    if (hyper_.size() != kHyperSize) {
      fail_value("optimizer", "9 hyperparameters", std::to_string(hyper_.size()));
    }
    if (learning_rate_.size() != 1 || iteration_.size() != 1) {
      fail_value("optimizer", "a scalar learning rate and iteration",
                 shape_text(learning_rate_.shape()) + " and " + shape_text(iteration_.shape()));
    }
    if (every < 1) fail_value("optimizer", "every >= 1", std::to_string(every));
    if (scale_ && scale_->size() != args.count) {
      fail_value("optimizer", "one scale per variable", shape_text(scale_->shape()));
    }
    for (std::size_t s = 0; s < slots.size() && s < 3; ++s) {
      if (!slots[s].is_none()) args.slots[s] = flat(py::cast<py::array>(slots[s]));
    }
    if (!product.is_none()) {
      auto array = py::cast<py::array>(product);
      args.product = InOut<double>("optimizer", "product", array).data();
    }
  }

  T* flat(py::array a) {  // an array beside w, changed in place
    InOut<T> in("optimizer", "slot", a);
    if (in.size() != w_.size()) {
      fail_value("optimizer", "slots of w's size " + std::to_string(w_.size()),
                 shape_text(in.shape()));
    }
    return in.data();
  }

  // For what reads gradients more than once.
  void refuse_factors() const {
    for (const Factors<T>& f : *factors_) {
      if (f.x) fail_value("optimizer", "gradients that are multiplied out", "factors of one");
    }
  }

  UpdateArgs<T> args;

 private:
  void check_layout_rows() {
    if (layout_.ndim() != 2 || layout_.shape(1) != 3) {
      fail_value("optimizer", "a layout of shape (variables, 3)", shape_text(layout_.shape()));
    }
    std::int64_t end = 0;
    for (std::int64_t i = 0; i < layout_.shape(0); ++i) {
      const std::int64_t *row = layout_.data() + 3 * i, begin = row[0], size = row[1];
      if (begin < end || size < 0 || size > w_.size() - begin) {
        fail_value("optimizer", "segments of w that follow each other",
                   "segment " + std::to_string(i) + " at " + std::to_string(begin) + " of size " +
                       std::to_string(size));
      }
      end = begin + size;
    }
  }

  void add_gradients(const py::list& gradients) {
    if (static_cast<std::int64_t>(gradients.size()) != layout_.shape(0)) {
      fail_value("optimizer", std::to_string(layout_.shape(0)) + " gradients",
                 std::to_string(gradients.size()));
    }
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      const std::int64_t size = layout_.data()[3 * i + 1];
      if (py::isinstance<py::tuple>(gradients[i])) {
        pointers_->push_back(nullptr);
        factors_->push_back(factors(py::cast<py::tuple>(gradients[i]), size));
        continue;
      }
      const OptionalInput<T>& g = inputs_.emplace_back("optimizer", "gradient", gradients[i]);
      if (g && g->size() != size) {
        fail_value("optimizer", "a gradient of its variable's size", shape_text(g->shape()));
      }
      pointers_->push_back(g.data());
      factors_->push_back({});
    }
    if (recording()) {
      recording()->keep(pointers_);
      recording()->keep(factors_);
    }
  }

  // (x, dy), of which x^T dy is the gradient.
  static Factors<T> factors(const py::tuple& pair, std::int64_t size) {
    const auto is_array = [&](std::size_t i) { return py::isinstance<py::array>(pair[i]); };
    if (pair.size() != 2 || !is_array(0) || !is_array(1)) {
      fail_value("optimizer", "two arrays as factors of a gradient",
                 "a tuple of " + std::to_string(pair.size()) + " objects");
    }
    const auto a = py::cast<py::array>(pair[0]), b = py::cast<py::array>(pair[1]);
    if (!has_dtype<T>(a)) fail_type("optimizer", "x", dtype_name<T>(), a);
    if (!has_dtype<T>(b)) fail_type("optimizer", "dy", dtype_name<T>(), b);
    const Input<T> x("optimizer", "x", a), dy("optimizer", "dy", b);
    if (!are_factors<T>(a, b) || x.shape(1) * dy.shape(1) != size) {
      fail_value(
          "optimizer",
          "x of shape (B, K) and dy of shape (B, N), B <= " + std::to_string(kFactorTerms<T>) +
              ", K >= " + std::to_string(kFactorRows) + ", N >= " + std::to_string(kFactorColumns) +
              ", for " + std::to_string(size) + " weights",
          shape_text(x.shape()) + " and " + shape_text(dy.shape()));
    }
    expect_flops(2.0 * static_cast<double>(x.size() * dy.shape(1)));
    return {x.data(), dy.data(), x.shape(0), x.shape(1), dy.shape(1)};
  }

  InOut<T> w_;
  Input<std::int64_t> layout_;
  Input<double> hyper_;
  Input<float> learning_rate_;
  Input<std::int64_t> iteration_;
  OptionalInput<double> scale_;
  std::deque<OptionalInput<T>> inputs_;  // gradients: what was widened lives as long
  std::shared_ptr<std::vector<const T*>> pointers_;
  std::shared_ptr<std::vector<Factors<T>>> factors_;
};

// Makes a group of w's dtype out of the arguments that all functions share, for body(group).
template <class... Extra, class Body>
void define(py::module_& m, const char* name, Body body) {
  m.def(name, [body](py::array w, const py::array& layout, const py::list& gradients,
                     const py::list& slots, const py::array& hyper, const py::array& learning_rate,
                     const py::array& iteration, std::int64_t every, const py::object& scale,
                     const py::object& product, Extra... extra) {
    return dispatch<float, double>("optimizer", w, [&](auto zero) -> py::object {
      Group<decltype(zero)> group(w, layout, gradients, slots, hyper, learning_rate, iteration,
                                  every, scale, product);
      return body(group, extra...);
    });
  });
}

template <class T, class Kernel>
py::object launch_on(const Group<T>& group, int slots, Kernel Optimizer<T>::* kernel) {
  for (int s = 0; s < slots; ++s) {
    if (!group.args.slots[s]) {
      fail_value("optimizer", std::to_string(slots) + " slots", std::to_string(s));
    }
  }
  run(kernels<Optimizer<T>>().*kernel, group.args);
  return py::none();
}

template <class T>
py::object accumulate(const Group<T>& group) {
  group.refuse_factors();
  return launch_on(group, 0, &Optimizer<T>::accumulate);
}

template <class T>
py::object clip(const Group<T>& group, double limit, bool global) {
  group.refuse_factors();
  const Optimizer<T>& kernel = kernels<Optimizer<T>>();
  Output<double> scale({static_cast<py::ssize_t>(group.args.count)});
  Workspace<double> partial(kernel.partial_size(group.args.n, group.args.count));
  run(kernel.clip, group.args, limit, global, partial.data(), scale.data());
  return scale.array();
}

template <class T>
py::object average(Group<T>& group, const py::array& mean, std::int64_t overwrite_every) {
  run(kernels<Optimizer<T>>().average, group.args, group.flat(mean), overwrite_every);
  return py::none();
}

const Binding optimizer([](py::module_& m) {
  // The number is that of the slots that a rule needs.
  const auto rule = [&m](const char* name, int slots, auto of_float, auto of_double) {
    define(m, name, [=](auto& group) {
      if constexpr (std::is_same_v<decltype(group), Group<float>&>) {
        return launch_on(group, slots, of_float);
      } else {
        return launch_on(group, slots, of_double);
      }
    });
  };
  using F = Optimizer<float>;
  using D = Optimizer<double>;
  rule("sgd_update", 0, &F::sgd, &D::sgd);
  rule("momentum_update", 1, &F::momentum, &D::momentum);
  rule("nesterov_update", 1, &F::nesterov, &D::nesterov);
  rule("adam_update", 2, &F::adam, &D::adam);
  rule("amsgrad_update", 3, &F::amsgrad, &D::amsgrad);
  rule("nadam_update", 2, &F::nadam, &D::nadam);
  rule("adamax_update", 2, &F::adamax, &D::adamax);
  rule("rmsprop_update", 1, &F::rmsprop, &D::rmsprop);
  rule("adagrad_update", 1, &F::adagrad, &D::adagrad);
  rule("adadelta_update", 2, &F::adadelta, &D::adadelta);
  rule("ftrl_update", 2, &F::ftrl, &D::ftrl);
  rule("lion_update", 1, &F::lion, &D::lion);
  // Whether an update by a rule with so many slots should take x^T dy by its factors.
  m.def("takes_factors", [](const py::array& x, const py::array& dy, int slots) {
    const auto gains = [&](auto zero) {
      using T = decltype(zero);
      return are_factors<T>(x, dy) && kernels<Optimizer<T>>().gains_from_factors(x.shape(0), slots);
    };
    return gains(float{}) || gains(double{});
  });
  rule("nadam_product", 0, &F::nadam_product, &D::nadam_product);
  define(m, "accumulate_gradients", [](auto& group) { return accumulate(group); });
  define<double, bool>(m, "clip_gradients", [](auto& group, double limit, bool global) {
    return clip(group, limit, global);
  });
  define<py::array, std::int64_t>(
      m, "average_weights", [](auto& group, const py::array& mean, std::int64_t overwrite_every) {
        return average(group, mean, overwrite_every);
      });
});

}  // namespace
}  // namespace narae
