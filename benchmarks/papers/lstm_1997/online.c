/* Online learning as in appendix A.1 of Hochreiter and Schmidhuber 1997: derivatives are carried
   along with the forward pass, errors come in at the end of a sequence, and one step of gradient
   descent follows each. Every unit of the hidden layer sees all inputs, memory cells, input gates
   and output gates of the step before, and a one; the cells of a block share their gates. */

#include <math.h>
#include <string.h>

#define MOST 64 /* what a unit may see, and how many cells there may be */

static double logistic(double a) { return 1.0 / (1.0 + exp(-a)); }

static double dot(const double *a, const double *b, long n) {
    double sum = 0.0;
    for (long k = 0; k < n; k++) sum += a[k] * b[k];
    return sum;
}

/* Learns from up to `count` sequences, the steps of one after those of another in `x`, and stops
   after the one that makes `*streak` right answers in a row `window`. Weights, row after row:
   input gates, output gates, cells, then output units, which see the cells and a one. A `rate` of
   0 only answers; output units are logistic, or `linear`. Returns how many sequences were seen; `errors` holds all they were off by. */
long online(long count, const long *lengths, const float *x, const float *targets,
            long inputs, long outputs, long blocks, long size, long linear, double rate,
            double tolerance, long window, long *streak, double *weights, double *errors) {
    const long units = blocks * size, sees = inputs + units + 2 * blocks + 1;
    double *w_in = weights, *w_out = w_in + blocks * sees, *w_cell = w_out + blocks * sees;
    double *head = w_cell + units * sees;
    for (long n = 0; n < count; n++, targets += outputs, errors += outputs) {
        double seen[MOST] = {0}, s[MOST] = {0}, y_in[MOST], y_out[MOST], cell[MOST + 1];
        double by_in[MOST][MOST], by_cell[MOST][MOST], back[MOST] = {0}, answer[MOST];
        memset(by_in, 0, sizeof by_in);
        memset(by_cell, 0, sizeof by_cell);
        double *cells = seen + inputs, *ins = cells + units, *outs = ins + blocks;
        seen[sees - 1] = 1.0;
        for (long t = 0; t < lengths[n]; t++, x += inputs) {
            if (t) {
                memcpy(cells, cell, units * sizeof *cells);
                memcpy(ins, y_in, blocks * sizeof *ins);
                memcpy(outs, y_out, blocks * sizeof *outs);
            }
            for (long k = 0; k < inputs; k++) seen[k] = x[k];
            for (long j = 0; j < blocks; j++) {
                y_in[j] = logistic(dot(w_in + j * sees, seen, sees));
                y_out[j] = logistic(dot(w_out + j * sees, seen, sees));
            }
            for (long v = 0; v < units; v++) {
                const double open = y_in[v / size], a = logistic(dot(w_cell + v * sees, seen, sees));
                const double g = 4.0 * a - 2.0, of_in = g * open * (1.0 - open);
                const double of_cell = open * 4.0 * a * (1.0 - a);
                s[v] += open * g;
                cell[v] = y_out[v / size] * (2.0 * logistic(s[v]) - 1.0);
                if (rate == 0.0) continue;
                for (long k = 0; k < sees; k++) {
                    by_in[v][k] += of_in * seen[k];
                    by_cell[v][k] += of_cell * seen[k];
                }
            }
        }
        cell[units] = 1.0;
        long right = 1;
        for (long k = 0; k < outputs; k++) {
            double *row = head + k * (units + 1);
            const double net = dot(row, cell, units + 1);
            answer[k] = linear ? net : logistic(net);
            errors[k] = answer[k] - targets[k];
            right &= fabs(errors[k]) < tolerance;
            const double e = -errors[k] * (linear ? 1.0 : answer[k] * (1.0 - answer[k]));
            for (long v = 0; v < units; v++) back[v] += e * row[v];
            for (long v = 0; v <= units; v++) row[v] += rate * e * cell[v];
        }
        if (rate != 0.0) {
            for (long v = 0; v < units; v++) {
                const long j = v / size;
                const double a = logistic(s[v]), h = 2.0 * a - 1.0;
                const double inside = rate * back[v] * y_out[j] * 2.0 * a * (1.0 - a);
                const double gate = rate * back[v] * h * y_out[j] * (1.0 - y_out[j]);
                for (long k = 0; k < sees; k++) {
                    w_in[j * sees + k] += inside * by_in[v][k];
                    w_cell[v * sees + k] += inside * by_cell[v][k];
                    w_out[j * sees + k] += gate * seen[k];
                }
            }
        }
        *streak = right ? *streak + 1 : 0;
        if (*streak >= window) return n + 1;
    }
    return count;
}
