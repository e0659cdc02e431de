package config

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"gancho/internal/servercert"
	"gancho/internal/strictyaml"
)

// Console is the pages for people, and the listener that they and the API are on.
type Console struct {
	// Listen is host:port; empty: there is no console.
	Listen string
	// PublicURL is the origin under which browsers reach it, such as https://webhooks.example.com; empty: http://, with TLS https://, and Listen.
	PublicURL string
	// TLS is the listener's.
	TLS servercert.Files
	// Language is pt-BR or en: that of browsers that ask for neither.
	Language string
	// Embed are the origins whose pages may have it in a frame.
	Embed []string
	Brand Brand
	// Screens are the vendors' screens for tenants: pacto, superlogica, iset, or the paths of files, relative to this one as it was given.
	Screens []string
	Tenants Tenants
}

// Brand is how the console looks.
type Brand struct {
	Name string // shown in its head
	// Logo is the name of an image, relative to the file as it was given.
	Logo  string
	Color string // #rrggbb
}

// Tenants is where the names of tenants come from; neither: they are shown by their ids.
type Tenants struct {
	// SQL reads id and name at source.lookup_dsn; its rows are kept for Cache.
	SQL   string
	Cache time.Duration
	List  []Tenant
}

// Tenant is a tenant's id, as events have it, and its name.
type Tenant struct{ ID, Name string }

const (
	defaultConsole     = "127.0.0.1:8630"
	defaultTenantCache = 10 * time.Minute
)

func (c *Console) decode(v value, file string) {
	c.Listen, c.Language, c.Brand.Name, c.Tenants.Cache = defaultConsole, "pt-BR", "Gancho", defaultTenantCache
	var public, embed value
	v.Map(
		strictyaml.Optional("listen", func(v value) { c.Listen = listenAddress(v, defaultConsole) }),
		strictyaml.Optional("public_url", func(v value) { public, c.PublicURL = v, decodeOrigin(v) }),
		strictyaml.Optional("tls", func(v value) {
			c.TLS = decodeTLS(v, file)
			checkTLS(v, c.TLS)
		}),
		strictyaml.Optional("language", func(v value) { c.Language = v.Choice("pt-BR", "en") }),
		strictyaml.Optional("embed", func(v value) {
			embed = v
			for _, item := range v.ListOrOne() {
				c.Embed = append(c.Embed, decodeOrigin(item))
			}
		}),
		strictyaml.Optional("brand", func(v value) { c.Brand.decode(v, file) }),
		strictyaml.Optional("screens", func(v value) {
			for _, item := range v.ListOrOne() {
				if s := decodeScreen(item, file); s != "" && !slices.Contains(c.Screens, s) {
					c.Screens = append(c.Screens, s)
				}
			}
		}),
		strictyaml.Optional("tenants", c.Tenants.decode),
	)
	switch {
	case !v.IsMap():
	case !public.Valid() && c.Listen != "" && !loopback(c.Listen):
		v.Errorf("add public_url: with the https:// address under which browsers reach it, that of console.tls or of the reverse proxy in front of it", "console.listen is %s, beyond this machine, and browsers would not know under which name to trust it", c.Listen)
	case c.TLS.On() && strings.HasPrefix(c.PublicURL, "http://"):
		public.Errorf("write https://", "the listener speaks TLS: console.tls is set")
	case embed.Valid() && len(c.Embed) > 0 && !strings.HasPrefix(c.PublicURL, "https://"):
		embed.Errorf("add public_url: https://..., or remove embed", "a browser keeps nobody signed in in a frame without https")
	}
}

// decodeOrigin reads scheme://host[:port]. Without https it must be this machine.
func decodeOrigin(v value) string {
	text := strings.TrimSuffix(v.Text(), "/")
	if text == "" {
		return ""
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Path != "", u.RawQuery != "", u.Fragment != "", u.User != nil, u.Scheme != "https" && u.Scheme != "http", strings.ContainsAny(u.Host, " ;,*'\""):
		v.Errorf("write such as https://webhooks.example.com", "this is not the origin of a page: a scheme, a host and, where it is needed, a port")
	case u.Scheme == "http" && !loopback(net.JoinHostPort(u.Hostname(), "80")):
		v.Errorf("write https://, and let a reverse proxy with TLS stand in front of it", "over http whoever is on the network path reads the console's session")
	}
	return strings.ToLower(text)
}

// screenEnding is that of a file with a screen.
const screenEnding = ".screen.yaml"

func decodeScreen(v value, file string) string {
	if v.IsText() && !strings.HasSuffix(v.Text(), screenEnding) {
		return v.ChoiceOr("the path of a NAME"+screenEnding, "pacto", "superlogica", "iset")
	}
	name := v.Text()
	if name != "" && !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(file), name)
	}
	if info, err := os.Stat(name); name != "" && (err != nil || !info.Mode().IsRegular()) {
		v.Errorf("write the path of a "+screenEnding+" file, relative to this one", "the screen cannot be read")
	}
	return name
}

func (b *Brand) decode(v value, file string) {
	v.Map(
		strictyaml.Optional("name", func(v value) {
			if b.Name = v.Text(); len(b.Name) > 60 {
				v.Errorf("use at most 60 bytes", "the name does not fit into the head of a page")
			}
		}),
		strictyaml.Optional("logo", func(v value) { b.Logo = decodeLogo(v, file) }),
		strictyaml.Optional("color", func(v value) {
			if b.Color = v.Text(); b.Color != "" && !color.MatchString(b.Color) {
				v.Errorf("write such as '#0b6e4f', in quotes", "this is not a color")
			}
		}),
	)
}

var color = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// maxLogo bounds the image, in bytes: it is part of the first page.
const maxLogo = 32 << 10

func decodeLogo(v value, file string) string {
	name := v.Text()
	if name == "" {
		return ""
	}
	if ext := strings.ToLower(filepath.Ext(name)); ext != ".svg" && ext != ".png" {
		v.Errorf("name a .svg or a .png", "the console shows no such image")
		return ""
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(file), name)
	}
	switch info, err := os.Stat(name); {
	case err != nil || !info.Mode().IsRegular():
		v.Errorf("write its path, relative to this file", "the image cannot be read")
	case info.Size() > maxLogo:
		v.Errorf("use one of at most 32 KiB", "the image has %d bytes, and is part of the first page", info.Size())
	}
	return name
}

func (t *Tenants) decode(v value) {
	var ways int
	v.Map(
		strictyaml.Optional("sql", func(v value) { t.SQL, ways = v.Text(), ways+1 }),
		strictyaml.Optional("cache", func(v value) { t.Cache = v.Duration(time.Second, 24*time.Hour) }),
		strictyaml.Optional("list", func(v value) {
			ways++
			for _, item := range v.List() {
				var n Tenant
				item.Map(
					strictyaml.Required("id", func(v value) { n.ID = v.Text() }),
					strictyaml.Required("name", func(v value) { n.Name = v.Text() }),
				)
				t.List = append(t.List, n)
			}
		}),
	)
	if v.IsMap() && ways != 1 {
		v.Errorf("write sql: with a query for id and name, such as select id, nome_fantasia from empresas order by 2; or list: [{id: 1, name: Centro}]", "tenants needs one of sql and list")
	}
}
