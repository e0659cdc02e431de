-- Legacy gym/shop/billing schema of the demo (Brazilian habits included), as a vendor's system of the kind has it.
-- Nothing in it knows of Gancho: what a DBA does for Gancho is in identity.sql.
-- PostgreSQL 14 and later; loads into UTF8 and LATIN1 databases.
--
-- Habitos reais: nomes em portugues sem acento, timestamp SEM fuso (hora de Sao Paulo), char(n) com espacos,
-- 'S'/'N', codigos de status de 1-2 letras, empresa_id em (quase) tudo, exclusao logica.
SET client_encoding = 'UTF8';

CREATE DOMAIN dm_sn      AS char(1) CHECK (VALUE IN ('S','N'));
CREATE DOMAIN dm_cpfcnpj AS varchar(14) CHECK (VALUE ~ '^[0-9]{11}$|^[0-9]{14}$');
CREATE TYPE   tp_sentido AS ENUM ('ENTRADA','SAIDA');

CREATE FUNCTION fn_toca_alteracao() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.alterado_em := clock_timestamp() AT TIME ZONE 'America/Sao_Paulo'; RETURN NEW; END $$;

CREATE TABLE empresas (               -- unidade/filial; a mesma base atende varias
  id serial PRIMARY KEY, codigo char(4) NOT NULL UNIQUE, rede_chave char(32) NOT NULL,
  razao_social varchar(120) NOT NULL, nome_fantasia varchar(80), cnpj char(14), ativo dm_sn NOT NULL DEFAULT 'S');

CREATE TABLE clientes (
  id serial PRIMARY KEY, empresa_id int NOT NULL REFERENCES empresas, matricula char(10),
  tipo_pessoa char(1) NOT NULL DEFAULT 'F', nome varchar(120) NOT NULL, cpf_cnpj dm_cpfcnpj, rg varchar(20),
  email varchar(120), celular varchar(20), dt_nascimento date, sexo char(1), cep char(8), endereco varchar(120),
  cidade varchar(60), uf char(2), dia_vencimento smallint DEFAULT 10,
  situacao char(2) NOT NULL DEFAULT 'VI',          -- VI visitante AT ativo IN inativo BL bloqueado CO congelado DE desativado
  inadimplente dm_sn NOT NULL DEFAULT 'N', limite_credito money DEFAULT 0,
  foto bytea, biometria bytea, observacao text, tags text[], dados_extras jsonb,
  dt_cadastro timestamp NOT NULL DEFAULT localtimestamp, dt_desativacao timestamp, dt_congelamento timestamp,
  dt_ultimo_acesso timestamp, ativo dm_sn NOT NULL DEFAULT 'S', excluido_em timestamp,
  usuario_alteracao varchar(30), alterado_em timestamp);

CREATE TABLE categorias (
  id serial PRIMARY KEY, empresa_id int NOT NULL, categoria_pai_id int REFERENCES categorias ON DELETE CASCADE,
  nome varchar(80) NOT NULL, caminho varchar(200), ordem smallint, ativo dm_sn NOT NULL DEFAULT 'S', alterado_em timestamp);

CREATE TABLE produtos (               -- produto da loja E servico/plano do faturamento
  id serial PRIMARY KEY, empresa_id int NOT NULL, codigo char(15) NOT NULL, tipo char(1) NOT NULL DEFAULT 'P', -- P produto S servico L plano
  descricao varchar(120) NOT NULL, descricao_html text, preco numeric(12,2) NOT NULL, preco_promocional numeric(12,2),
  custo money, ncm char(8), peso_kg numeric(8,3), situacao char(1) NOT NULL DEFAULT 'A',   -- A ativo I inativo(desativado) E excluido
  excluido_em timestamp, alterado_em timestamp, UNIQUE (empresa_id, codigo));
CREATE TABLE produtos_categorias (produto_id int REFERENCES produtos ON DELETE CASCADE, categoria_id int REFERENCES categorias ON DELETE CASCADE,
  PRIMARY KEY (produto_id, categoria_id));

CREATE TABLE contratos (
  id serial PRIMARY KEY, empresa_id int NOT NULL, cliente_id int NOT NULL REFERENCES clientes, produto_id int REFERENCES produtos,
  numero char(12), tipo char(1) NOT NULL DEFAULT 'M',  -- M matricula R renovacao T rematricula
  situacao char(2) NOT NULL DEFAULT 'AT',              -- RA rascunho AT ativo TR trancado VE vencido CA cancelado
  dt_lancamento timestamp NOT NULL DEFAULT localtimestamp, dt_inicio date NOT NULL, dt_fim date, dt_fim_ajustada date,
  dt_cancelamento timestamp, motivo_cancelamento varchar(200), duracao interval, valor_mensal numeric(12,2),
  recorrente dm_sn NOT NULL DEFAULT 'S', consultor varchar(60), observacao text, alterado_em timestamp);

CREATE TABLE mensalidades (           -- item recorrente do contrato
  id serial PRIMARY KEY, empresa_id int NOT NULL, contrato_id int NOT NULL REFERENCES contratos, produto_id int,
  valor numeric(12,2) NOT NULL, quantidade numeric(8,3) NOT NULL DEFAULT 1,
  total numeric(14,2) GENERATED ALWAYS AS (round(valor*quantidade,2)) STORED,
  periodicidade smallint NOT NULL DEFAULT 0,           -- 0 mensal 1 bim 2 trim 3 sem 4 anual
  indice char(6), dt_inicio date NOT NULL, dt_fim timestamp DEFAULT 'infinity', dt_ultimo_reajuste date, alterado_em timestamp);
CREATE TABLE reajustes (              -- nem todo sistema tem
  id serial PRIMARY KEY, empresa_id int, mensalidade_id int NOT NULL REFERENCES mensalidades, dt_reajuste date NOT NULL, indice char(6),
  percentual numeric(7,4), valor_anterior numeric(12,2), valor_novo numeric(12,2), lote int, usuario varchar(30));

CREATE TABLE cobrancas (
  id serial PRIMARY KEY, empresa_id int NOT NULL, cliente_id int NOT NULL, contrato_id int, nosso_numero char(17), documento varchar(20),
  valor numeric(12,2) NOT NULL, valor_pago numeric(12,2), desconto numeric(12,2) DEFAULT 0,
  dt_emissao date NOT NULL, dt_vencimento date NOT NULL, dt_liquidacao date, dt_credito date, dt_invalidacao timestamp, dt_estorno timestamp,
  forma char(2) NOT NULL DEFAULT 'BO',                 -- BO boleto PX pix CC cartao DI dinheiro CR credito em conta
  status char(1) NOT NULL DEFAULT 'P',                 -- P pendente L liquidada I invalidada
  dt_impressao timestamp, alterado_em timestamp);
CREATE TABLE cobrancas_itens (cobranca_id int REFERENCES cobrancas ON DELETE CASCADE, seq smallint, produto_id int, complemento varchar(120),
  quantidade numeric(8,3), valor numeric(12,2), PRIMARY KEY (cobranca_id, seq));

CREATE TABLE vendas_avulsas (id serial PRIMARY KEY, empresa_id int NOT NULL, cliente_id int, comprador varchar(80) DEFAULT 'CONSUMIDOR',
  situacao char(2) NOT NULL DEFAULT 'EA',              -- EA em aberto PG paga CA cancelada
  total numeric(12,2), dt_venda timestamp NOT NULL DEFAULT localtimestamp, consultor varchar(60), alterado_em timestamp);
CREATE TABLE vendas_avulsas_itens (venda_id int REFERENCES vendas_avulsas ON DELETE CASCADE, seq smallint, produto_id int, quantidade numeric(8,3), preco numeric(12,2),
  PRIMARY KEY (venda_id, seq));
CREATE TABLE pagamentos (             -- recebimento / recibo
  id serial PRIMARY KEY, empresa_id int NOT NULL, recibo int NOT NULL, cliente_id int, cobranca_id int, venda_avulsa_id int, contrato_id int,
  forma char(2) NOT NULL, valor numeric(12,2) NOT NULL, parcelas smallint DEFAULT 1, dt_pagamento timestamp NOT NULL DEFAULT localtimestamp,
  nsu varchar(20), responsavel varchar(40), estornado dm_sn NOT NULL DEFAULT 'N', dt_estorno timestamp, alterado_em timestamp);

CREATE TABLE acessos (                -- catraca: alto volume, particionada por mes
  id bigserial, empresa_id int NOT NULL, cliente_id int, dt_acesso timestamp NOT NULL, dt_saida timestamp, sentido tp_sentido NOT NULL,
  coletor char(8), meio char(1),                       -- B biometria F facial C cartao M manual
  liberado boolean NOT NULL, motivo_bloqueio varchar(80), PRIMARY KEY (id, dt_acesso)) PARTITION BY RANGE (dt_acesso);
CREATE TABLE acessos_2026_11 PARTITION OF acessos FOR VALUES FROM ('2026-11-01') TO ('2026-12-01');
CREATE TABLE acessos_2026_12 PARTITION OF acessos FOR VALUES FROM ('2026-12-01') TO ('2027-01-01');
CREATE TABLE acessos_resto   PARTITION OF acessos DEFAULT;

CREATE TABLE pedidos (
  id serial PRIMARY KEY, empresa_id int NOT NULL, numero char(10), cliente_id int, carrinho_id uuid, origem char(1) NOT NULL DEFAULT 'L', -- L loja P painel M marketplace
  status char(2) NOT NULL DEFAULT '00',                -- 00 checkout iniciado 10 aguardando pgto 20 aprovado 30 faturado 40 enviado 50 entregue 90 cancelado
  subtotal numeric(12,2), frete numeric(12,2), desconto numeric(12,2), total numeric(12,2), cupom varchar(20),
  dt_checkout timestamp DEFAULT localtimestamp, dt_conclusao timestamp, dt_cancelamento timestamp, rastreio varchar(30),
  entrega jsonb, observacao text, excluido_em timestamp, alterado_em timestamp);
CREATE TABLE itens_pedido (pedido_id int REFERENCES pedidos ON DELETE CASCADE, seq smallint, produto_id int, quantidade numeric(10,3), preco numeric(12,2),
  PRIMARY KEY (pedido_id, seq));
CREATE TABLE estoque (empresa_id int, produto_id int REFERENCES produtos, deposito char(3) DEFAULT '001', quantidade numeric(14,3) NOT NULL, reservado numeric(14,3) NOT NULL DEFAULT 0,
  alterado_em timestamp, PRIMARY KEY (empresa_id, produto_id, deposito));
CREATE TABLE estoque_movimentos (     -- livro: SEM chave primaria
  empresa_id int, produto_id int, deposito char(3), tipo char(1), origem char(1), -- tipo E/S; origem P pedido A ajuste painel N nota I inventario
  documento varchar(20), quantidade numeric(14,3), saldo numeric(14,3), dt_movimento timestamp DEFAULT localtimestamp, usuario varchar(30));
CREATE UNLOGGED TABLE carrinhos (id uuid PRIMARY KEY, empresa_id int, cliente_id int, sessao varchar(64), itens jsonb, status char(1) DEFAULT 'A', criado_em timestamp DEFAULT localtimestamp);

CREATE TABLE despesas (id serial PRIMARY KEY, empresa_id int NOT NULL, fornecedor_id int, descricao varchar(120), valor numeric(12,2) NOT NULL, dt_vencimento date,
  dt_liquidacao date, valor_pago numeric(12,2), status char(1) NOT NULL DEFAULT 'P', -- P pendente L liquidada X cancelada
  alterado_em timestamp);
CREATE TABLE transacoes_cartao (id bigserial PRIMARY KEY, empresa_id int, cobranca_id int, pedido_id int, cliente_id int, tentativa smallint DEFAULT 1,
  cartao_mascarado varchar(19), bandeira char(2), nsu varchar(20), autorizacao varchar(10), valor numeric(12,2),
  status char(1) NOT NULL DEFAULT 'E',                 -- E enviada A aprovada N negada C cancelada/estornada T timeout
  cod_retorno char(3), msg_retorno varchar(120), dt_tentativa timestamp DEFAULT localtimestamp, dt_retorno timestamp);
CREATE TABLE notas_fiscais (id serial PRIMARY KEY, empresa_id int, cobranca_id int, pedido_id int, tipo char(1) NOT NULL, -- R RPS/NFS-e  P NF-e produto
  serie char(3), numero_rps int, numero_nf int, chave_acesso char(44), cod_verificacao varchar(12), valor numeric(12,2), iss numeric(12,2),
  status char(1) NOT NULL DEFAULT 'R',                 -- R RPS emitido E enviada C convertida/autorizada X cancelada D denegada
  dt_emissao timestamp DEFAULT localtimestamp, dt_conversao timestamp, xml text, alterado_em timestamp);

-- esquisitices que toda base antiga tem
CREATE TABLE "TB_FORNECEDOR" ("ID_FORNECEDOR" int PRIMARY KEY, "NM_FANTASIA" varchar(60), "VL_ÚLTIMA_COMPRA" numeric, "DT_FUNDACAO" date);
CREATE TABLE pessoas (codigo serial PRIMARY KEY, nome varchar(80), cfp varchar(14));            -- 'cfp' mesmo: erro de digitacao eterno
CREATE TABLE colaboradores (cargo varchar(30), PRIMARY KEY (codigo)) INHERITS (pessoas);
CREATE TABLE parametros (chave varchar(60), valor text);                                        -- sem PK, com UPDATE
CREATE VIEW vw_clientes_ativos AS SELECT id, empresa_id, nome FROM clientes WHERE situacao='AT' AND excluido_em IS NULL;

DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['clientes','categorias','produtos','contratos','mensalidades','cobrancas','vendas_avulsas','pagamentos','pedidos','estoque','despesas','notas_fiscais']
LOOP EXECUTE format('CREATE TRIGGER tg_%s_alt BEFORE INSERT OR UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION fn_toca_alteracao()', t, t); END LOOP; END $$;
CREATE FUNCTION fn_ultimo_acesso() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE clientes SET dt_ultimo_acesso=NEW.dt_acesso WHERE id=NEW.cliente_id; RETURN NULL; END $$;
CREATE TRIGGER tg_acesso AFTER INSERT ON acessos FOR EACH ROW EXECUTE FUNCTION fn_ultimo_acesso();
