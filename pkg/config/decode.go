package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/v2"
)

// decode puts what k holds over cfg and reports every value that doesn't fit
// its key. Values are taken as they are written: no number is read as text, no
// text as a number, except from the environment, where all is text.
func (c *checker) decode(k *koanf.Koanf, cfg *Config) {
	err := k.UnmarshalWithConf("", cfg, koanf.UnmarshalConf{
		Tag: "koanf",
		DecoderConfig: &mapstructure.DecoderConfig{
			DecodeHook: mapstructure.DecodeHookFuncValue(convert),
			MatchName:  func(key, name string) bool { return key == name },
		},
	})
	c.decodeErrors(err)
}

// decodeErrors takes apart what mapstructure joined.
func (c *checker) decodeErrors(err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, part := range joined.Unwrap() {
			c.decodeErrors(part)
		}
		return
	}
	if problem, ok := err.(*mapstructure.DecodeError); ok { //nolint:errorlint // taken apart level by level
		c.problem(problem.Name(), "%s", problem.Unwrap())
		return
	}
	if inner := errors.Unwrap(err); inner != nil {
		c.decodeErrors(inner)
		return
	}
	c.problem("configuration", "%s", err)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
	sourceType   = reflect.TypeFor[Source]()
	secretType   = reflect.TypeFor[Secret]()
)

// convert checks a value against the key's type before mapstructure sets it,
// so that the complaint is in the user's words and never holds a secret.
func convert(from, to reflect.Value) (any, error) {
	if value, ok := from.Interface().(environmentValue); ok {
		return fromText(value.Text, to.Type())
	}
	switch to.Type() {
	case durationType:
		if text, ok := from.Interface().(string); ok {
			return ParseDuration(text)
		}
		return nil, errors.New("needs a number with a unit, such as 500ms, 30s, 1h30m or 7d")
	case sizeType:
		if text, ok := from.Interface().(string); ok {
			return ParseSize(text)
		}
		return nil, errors.New("needs a number with a unit, such as 16MiB, 64KB or 512B")
	case sourceType:
		to.Set(reflect.ValueOf(defaultSourceFor(from.Interface())))
	}
	switch to.Kind() {
	case reflect.Struct, reflect.Map:
		if from.Kind() != reflect.Map {
			return nil, errors.New("needs keys below it, not a single value")
		}
	case reflect.Slice:
		if from.Kind() != reflect.Slice {
			return nil, errors.New("needs a list, such as [a, b]")
		}
	case reflect.String:
		if from.Kind() != reflect.String {
			return nil, errors.New("needs text; put quotes around it")
		}
	case reflect.Bool:
		if from.Kind() != reflect.Bool {
			return nil, errors.New("needs true or false")
		}
	default:
		return integer(from, to)
	}
	return from.Interface(), nil
}

func integer(from, to reflect.Value) (any, error) {
	var number int64
	switch {
	case from.CanInt():
		number = from.Int()
	case from.CanUint() && from.Uint() <= 1<<62:
		number = int64(from.Uint())
	default:
		return nil, errors.New("needs a whole number")
	}
	return bounded(number, to.Type())
}

func bounded(number int64, kind reflect.Type) (any, error) {
	value := reflect.New(kind).Elem()
	switch {
	case value.CanInt() && !value.OverflowInt(number):
		value.SetInt(number)
	case value.CanUint() && number >= 0 && !value.OverflowUint(uint64(number)):
		value.SetUint(uint64(number))
	default:
		return nil, fmt.Errorf("%d is out of range", number)
	}
	return value.Interface(), nil
}

// fromText reads a variable's text as what its key holds.
func fromText(text string, kind reflect.Type) (any, error) {
	switch kind {
	case durationType:
		return ParseDuration(text)
	case sizeType:
		return ParseSize(text)
	case secretType:
		return text, nil
	}
	switch kind.Kind() {
	case reflect.String:
		return text, nil
	case reflect.Bool:
		value, err := strconv.ParseBool(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%q is neither true nor false", text)
		}
		return value, nil
	case reflect.Slice:
		list := []string{}
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		return list, nil
	default:
		number, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", text)
		}
		return bounded(number, kind)
	}
}

func index(prefix string, i int) string { return prefix + "[" + strconv.Itoa(i) + "]" }
